"""Admission of a request: authentication, limits, and cached answers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from kit.errors import ApiError, ErrorType
from kit.limits import INFERENCE_BODY

from router import anthropic, bodies, door, parameters, payload, ratelimit, usage
from router.answer import Answer
from router.cache import MAX_ANSWER, ResponseCache
from router.routes import Guardrails
from router.tenancy import digest_of

if TYPE_CHECKING:
    from router.selection import RouteState
    from router.tenancy import Account

IDEMPOTENT_S = 600.0
"""Seconds that the answer to a request with an Idempotency-Key is kept, if there is room."""


class Admission(Answer):
    """The layer of a request before targets are called: tenant, model, limits, cached answers."""

    def attempt(self, now: float) -> None:
        """Call a target."""
        raise NotImplementedError

    def answer_again(self, body: bytes) -> None:
        """Answer with a cached answer."""
        raise NotImplementedError

    def judge(self) -> None:
        """Authenticate the caller from the headers, before any of the body is stored. Raises ApiError."""
        headers = self.headers
        self.digest = digest_of(payload.bearer(headers))
        account = self.core.accounts.of(self.digest, headers.get(b"x-client-id", b""))
        if account is None:
            message = "The API key is missing or unknown."
            raise ApiError(401, message, ErrorType.AUTHENTICATION, code="invalid_api_key")
        self.holder, self.tenant = account, account.label
        size = self.size
        if self.more_body and (length := headers.get(b"content-length", b"")).isdigit():
            size = max(size, int(length))
        if size > bodies.SMALL_BYTES:
            self.reserve_body(size)

    def reserve_body(self, size: int) -> None:
        """Reserve memory for a body of this size. Raises ApiError if it is too large, or does not fit now."""
        if size > INFERENCE_BODY.most:
            raise bodies.too_large()
        if size > self.reserved:
            self.retry_after_s = bodies.AGAIN_S
            self.core.bodies.take(self.tenant, size - self.reserved)
            self.reserved = size

    def admit(self) -> None:
        """Find the route, check limits, look for a cached answer, then call a target. Raises ApiError."""
        core, now, account = self.core, self.started, self.holder
        assert account is not None, "judged before"
        if self.path == anthropic.PATH:
            self.body, self.upstream_path = anthropic.request(self.body), payload.CHAT
        usual = parameters.check(self.upstream_path, self.body)
        self.ask = ask = payload.read(self.upstream_path, self.body, usual)
        route = core.routes.get(ask.model)
        if route is None or (account.models and ask.model not in account.models):
            message = f"The model `{ask.model}` does not exist."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_found")
        self.route, self.model = route, ask.model
        if self.path == anthropic.PATH:
            self.dialect = anthropic.Stream(self.request_id.decode(), ask.model)
        if ask.stream:
            self.streams = self.upstream_path != payload.EMBEDDINGS
        self.deadline = now + route.route.timeout_seconds
        if wait := account.ask(now):
            self._limit("rate_limit_exceeded", "Too many requests per minute.", wait)
        if ask.prompt and self.upstream_path in payload.STORED:
            core.begin(self)
            self.beside(self._fill(account, route))
            return
        self._looked_at(account, route, ask)

    async def _fill(self, account: Account, route: RouteState) -> None:
        """Add a stored prompt before the request's own messages."""
        from router import prompts

        if self.core.prompts is None:
            message = "prompt: stored prompts are not available in this environment."
            raise ApiError(400, message, param="prompt", code="unsupported")
        content = prompts.decode(self.body)
        found = await self.core.prompts.render(self, content)
        if self.response_complete or self.disconnected:
            return
        self.prompt_version = found.version
        self.body = prompts.encode(prompts.filled(self.upstream_path, content, found))
        self.ask = ask = payload.read(self.upstream_path, self.body)
        self._looked_at(account, route, ask)

    def _looked_at(self, account: Account, route: RouteState, ask: usage.Ask) -> None:
        """Check the request with Guardrails, if the route requires it."""
        if route.guarded and self.core.guard is not None:
            self._look_at_input(account, route)
            return
        self._admitted(account, route, ask)

    def failed(self, error: Exception) -> None:
        """Answer with the error. Internal errors are answered, too."""
        if self.response_complete:
            return
        if not isinstance(error, ApiError):
            self.log_fault(error)
            error = ApiError(500, "The server had an error while processing your request.", ErrorType.SERVER)
        self.refuse(error)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Continue this request after another service has answered."""

        async def safely() -> None:
            try:
                await work
            except Exception as error:
                self.failed(error)

        self.core.start(safely())

    def _look_at_input(self, account: Account, route: RouteState) -> None:
        """Continue after Guardrails has admitted the request."""
        self.guard_required = route.route.guardrails is Guardrails.REQUIRED
        self.core.begin(self)
        self.beside(self._looked(account, route))

    async def _looked(self, account: Account, route: RouteState) -> None:
        from router import guard as looking

        assert self.core.guard is not None, "callers check this"
        content = looking.decode(self.body)
        self.guarded_action = await self.core.guard.look(self, looking.messages.DIRECTION_INPUT, content)
        if self.response_complete or self.disconnected:
            return
        if self.guarded_action == "block":
            raise looking.blocked()
        # The checked content is serialized again, since another parser may interpret duplicate keys differently.
        self.body = looking.encode(content)
        self.ask = payload.read(self.upstream_path, self.body)
        self._admitted(account, route, self.ask)

    def _admitted(self, account: Account, route: RouteState, ask: usage.Ask) -> None:
        """Look for a cached answer, check limits, call a target."""
        core, now = self.core, self.core.now()
        self.cache_key = self._again_key(account, route, ask)
        if self.cache_key is not None:
            found = core.cache.get(self.cache_key, now)
            core.measures.cache.values["miss" if found is None else "hit",] += 1
            if found is not None:
                self.cached_as = "repeated" if b"idempotency-key" in self.headers else "equal"
                self.answer_again(found)
                return
            policy = route.route.cache
            # Equal requests share an answer, independent of their Idempotency-Key.
            by_meaning = policy is not None and policy.similarity and b"idempotency-key" not in self.headers
            if by_meaning and core.semantic is not None and not self.inside:
                core.begin(self)
                self.beside(self._meant(account, route, ask, policy.similarity))
                return
        self._proceed(account, route, ask, now)

    async def _meant(self, account: Account, route: RouteState, ask: usage.Ask, similarity: float) -> None:
        """Answer from the semantic cache, or continue."""
        from router import semantic

        cache = self.core.semantic
        assert cache is not None, "callers check this"
        asked = semantic.question(self._caller_of(account), self.body) if self.upstream_path == payload.CHAT else None
        vector = await cache.vector(asked[1], self.traceparent) if asked else None
        if self.response_complete or self.disconnected:
            return
        if asked is not None and vector is not None:
            found = cache.get(asked[0], vector, similarity, self.core.now())
            if found is not None:
                self.cached_as = "similar"
                self.answer_again(found)
                return
            self.meaning = (asked[0], vector)
        self._proceed(account, route, ask, self.core.now())

    def _proceed(self, account: Account, route: RouteState, ask: usage.Ask, now: float) -> None:
        """Check limits and call a target, unless an equal request is running."""
        core = self.core
        self._reserve(account, route, ask, now)
        core.begin(self)
        if self.cache_key is not None:
            self.leads = core.cache.lead(self.cache_key, self)
            if not self.leads and self.streams:
                self.cache_key = None
                self.retry_after_s = 1.0
                message = "The first request with this Idempotency-Key is still running. Try again after its end."
                raise ApiError(409, message, param="Idempotency-Key", code="idempotency_key_in_use")
            if not self.leads:
                return  # an equal request is running: `on_shared` gets its answer
            if self.streams:
                self.recorded = []
        self.fallbacks = route.fallbacks
        self.attempt(now)

    def _owner(self, account: Account) -> bytes:
        """Owner of cached answers: the tenant, or without tenants the client that the gateway has authenticated."""
        return b"%s\0%s" % (account.label, self.headers.get(b"x-client-id", b""))

    def _keep(self, body: bytes) -> None:
        """Store an answer in the caches."""
        key, self.cache_key = self.cache_key, None
        assert key is not None
        until = self.core.now() + self.ttl_s
        self.core.cache.put(key, body, until)
        self.core.cache.settle(key, body)
        if self.meaning is not None and self.core.semantic is not None:
            self.core.semantic.put(*self.meaning, body, until)

    def _caller_of(self, account: Account) -> bytes:
        """The API key, or the client if the gateway checks keys. Users of a tenant do not share answers."""
        return b"%s\0%s" % (self._owner(account), self.digest)

    def record(self, data: bytes) -> None:
        """Record a piece of a stream for the cache, unless the stream is too long or has failed."""
        assert self.recorded is not None
        self._recorded_bytes += len(data)
        if self._recorded_bytes > MAX_ANSWER or b'data: {"error"' in data or data.startswith(b"event: error"):
            self.recorded = None
        else:
            self.recorded.append(data)

    def _again_key(self, account: Account, route: RouteState, ask: usage.Ask) -> bytes | None:
        """Cache key of the answer, for repeated or for equal requests; None if it is not cached."""
        policy, repeated = route.route.cache, self.headers.get(b"idempotency-key")
        if repeated:
            door.idempotency_key(repeated)
            owner = self._caller_of(account)
            equal = ResponseCache.key(owner, self.upstream_path, self.body)
            key = ResponseCache.key(owner, b"idempotency-key", repeated)
            if not self.core.cache.same(key, equal):
                message = "This Idempotency-Key was used for another request."
                raise ApiError(422, message, param="Idempotency-Key", code="idempotency_key_reused")
            self.ttl_s = IDEMPOTENT_S
            return key
        if self.streams:
            return None
        if policy is not None and (policy.any_temperature or ask.temperature == 0):
            self.ttl_s = policy.ttl_seconds
            return ResponseCache.key(self._owner(account), self.upstream_path, self.body)
        return None

    def _reserve(self, account: Account, route: RouteState, ask: usage.Ask, now: float) -> None:
        """Reserve tokens and budget, so that concurrent requests cannot overspend together."""
        input_tokens, output_tokens = usage.estimate(self.body), ask.output_tokens()
        cost = 0.0
        if account.budget is not None:
            cost = input_tokens * route.input_price + output_tokens * route.output_price
        refusal = account.admit(input_tokens + output_tokens, cost, now)
        if refusal is not None:
            self._limit(refusal.code, refusal.message, refusal.retry_after_s)
        self.account = account
        self.estimated, self.held = input_tokens + output_tokens, cost

    def api_headers(self) -> bytes:
        """Headers of the client's API: remaining rates, and Anthropic's request ID."""
        holder = self.holder
        if self.path == anthropic.PATH:
            own = b"request-id: %s\r\n" % self.request_id
            return own if holder is None else own + ratelimit.anthropic(holder, self.core.now())
        if holder is None or (holder.requests is None and holder.tokens is None):
            return b""
        return ratelimit.openai(holder, self.core.now())

    def target_shown(self, label: bytes) -> bytes:
        """Header with the target, for operators only, since it reveals internal hosts."""
        if self.core.accounts.operates(self.digest, self.headers):
            return b"x-router-target: %s\r\n" % label
        return b""

    def _limit(self, code: str, message: str, wait_s: float) -> None:
        self.retry_after_s = wait_s
        raise ApiError(429, message, ErrorType.RATE_LIMIT, code=code)
