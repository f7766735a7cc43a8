"""One request on the fast path, from its first header to the last byte of its answer."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from kit.errors import ApiError, ErrorType

from router import anthropic, continuation, payload, usage
from router.answer import Answer
from router.cache import ResponseCache
from router.leg import Leg

if TYPE_CHECKING:
    from router.core import Core
    from router.front import Front
    from router.selection import RouteState
    from router.targets import TargetState
    from router.tenancy import Account

MAX_BODY_BYTES = 16 * 1024 * 1024
IDEMPOTENT_S = 600.0
"""A request with an Idempotency-Key is answered again for so long, as long as there is room for its answer."""
ROUNDS = 3
"""Times that all targets are asked once more."""
RETRY_PAUSE_S = 0.05  # at most, before a target is asked again; doubles, and is random, so that callers spread


class Exchange(Answer):
    """A request: admitted, sent to targets until one answers, accounted for."""

    body: Any = b""
    ask: usage.Ask | None = None
    model = ""
    """As the client named it."""
    account: Account | None = None
    tenant = b""
    used: tuple[int, int] | None = None
    """(input, output) tokens, once the answer has told."""
    route: RouteState | None = None
    attempts = 0
    hides_usage = False
    """Whether the usage at the end of a stream is the router's own wish."""
    partial = ""
    """What a target said before it broke off, for the next one to go on with."""
    dialect: anthropic.Stream | None = None
    """Where the client speaks Anthropic's API: what turns streams into it."""
    deadline = float("inf")
    _size = 0
    _turn = False
    _estimated, _held = 0, 0.0
    _hedged = False
    _rounds = 0
    _reason = "no target is available"
    _timed_out = False
    _cache_key: bytes | None = None
    _ttl_s = 0.0
    _leads = False  # whether others wait for the answer to this request
    _retry: asyncio.TimerHandle | None = None

    def __init__(self, front: Front, core: Core, path: bytes, headers: dict[bytes, bytes]) -> None:
        self.front, self.core, self.path, self.upstream_path = front, core, path, path
        self.path_text = payload.TEXTS[path]
        self.headers = headers
        self.started = core.now()
        given = headers.get(b"x-request-id")
        self.request_id = given if given and payload.is_request_id(given) else core.request_id()
        self._pieces: list[bytes] = []
        self._fallbacks: tuple[RouteState, ...] = ()
        self._tried: list[TargetState] = []
        self._legs: list[Leg] = []
        core.measures.begin(self, headers.get(b"traceparent", b""))

    @property
    def operation(self) -> str:
        """What the semantic conventions call it."""
        return payload.OPERATIONS.get(self.path_text, "chat")

    # --- what the server calls ----------------------------------------------------------------

    @property
    def message_event(self) -> Exchange:
        """The server's way to say that the connection is lost."""
        return self

    def set(self) -> None:
        """The client has gone: nobody waits for an answer."""
        if self.disconnected and not self.response_complete:
            for leg in self._legs:
                leg.drop()
            self.finish(499)

    def feed(self, data: bytes) -> None:
        """A piece of the request's body; beyond the limit it is only counted."""
        self._size += len(data)
        if self._size <= MAX_BODY_BYTES:
            self._pieces.append(data)

    def complete(self) -> None:
        """The request is here."""
        self.more_body = False
        self.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if self._turn:
            self._begin()

    def start(self) -> None:
        """Earlier requests on this connection are answered."""
        self._turn = True
        if not self.more_body:
            self._begin()

    # --- admission ----------------------------------------------------------------------------

    def _begin(self) -> None:
        self.started = self.core.now()
        try:
            self._admit()
        except ApiError as error:
            self.refuse(error)
        except Exception as error:  # a fault of ours must not leave the client without an answer
            self.front.log_fault(self, error)
            self.refuse(ApiError(500, "The server had an error while processing your request.", ErrorType.SERVER))

    def _admit(self) -> None:
        if self._size > MAX_BODY_BYTES:
            self.keep_alive = False
            raise ApiError(413, f"The body is larger than {MAX_BODY_BYTES} bytes.", code="body_too_large")
        core, now = self.core, self.started
        account = core.accounts.find(payload.bearer(self.headers), self.headers.get(b"x-client-id", b""))
        if account is None:
            message = "The API key is missing or not known."
            raise ApiError(401, message, ErrorType.AUTHENTICATION, code="invalid_api_key")
        self.tenant = account.label
        if self.path == anthropic.PATH:
            self.body, self.upstream_path = anthropic.request(self.body), payload.CHAT
        self.ask = ask = payload.read(self.upstream_path, self.body)
        route = core.routes.get(ask.model)
        if route is None or (account.models and ask.model not in account.models):
            message = f"The model `{ask.model[:256]}` does not exist."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_found")
        self.route, self.model = route, ask.model
        if self.path == anthropic.PATH:
            self.dialect = anthropic.Stream(self.request_id.decode(), ask.model)
        self.deadline = now + route.route.timeout_seconds
        if account.requests is not None and (wait := account.requests.wait_s(1, now)):
            self._limit("rate_limit_exceeded", "Too many requests a minute.", wait)
        self._cache_key = None if ask.stream else self._again_key(account, route, ask)
        if self._cache_key is not None:
            found = core.cache.get(self._cache_key, now)
            core.measures.cache.values["miss" if found is None else "hit",] += 1
            if found is not None:
                self.answer_again(found)
                return
        self._reserve(account, route, ask, now)
        core.begin(self)
        if self._cache_key is not None:
            self._leads = core.cache.lead(self._cache_key, self)
            if not self._leads:
                return  # an equal request is on its way: `on_shared` brings its answer
        self._fallbacks = route.fallbacks
        self.attempt(now)

    def _again_key(self, account: Account, route: RouteState, ask: usage.Ask) -> bytes | None:
        """Under what the answer is kept: for a repeated request, or for all equal ones; None: not at all."""
        policy, repeated = route.route.cache, self.headers.get(b"idempotency-key")
        # Without tenants all are one, but what the gateway keeps apart stays apart.
        owner = f"{account.id}\0{self.headers.get(b'x-client-id', b'').decode('latin-1')}"
        if repeated:
            equal = ResponseCache.key(owner, self.upstream_path, self.body)
            key = ResponseCache.key(owner, b"idempotency-key", repeated)
            if not self.core.cache.same(key, equal):
                message = "This Idempotency-Key was used for another request."
                raise ApiError(422, message, param="Idempotency-Key", code="idempotency_key_reused")
            self._ttl_s = IDEMPOTENT_S
            return key
        if policy is not None and (policy.any_temperature or ask.temperature == 0):
            self._ttl_s = policy.ttl_seconds
            return ResponseCache.key(owner, self.upstream_path, self.body)
        return None

    def _reserve(self, account: Account, route: RouteState, ask: usage.Ask, now: float) -> None:
        """Set tokens and money aside, so that requests under way cannot overspend together."""
        input_tokens, output_tokens = usage.estimate(self.body), ask.output_tokens()
        cost = 0.0
        if account.budget is not None:
            cost = input_tokens * route.input_price + output_tokens * route.output_price
        refusal = account.admit(input_tokens + output_tokens, cost, now)
        if refusal is not None:
            self._limit(refusal.code, refusal.message, refusal.retry_after_s)
        self.account = account
        self._estimated, self._held = input_tokens + output_tokens, cost

    def _limit(self, code: str, message: str, wait_s: float) -> None:
        self.retry_after_s = wait_s
        raise ApiError(429, message, ErrorType.RATE_LIMIT, code=code)

    def on_shared(self, body: bytes | None) -> None:
        """The answer to an equal request, or None: it failed, so this one asks for itself."""
        if self.response_complete or self.disconnected:
            return
        self._cache_key = None
        if body is not None:
            self.answer_again(body)
            return
        assert self.route is not None
        self._fallbacks = self.route.fallbacks
        self.attempt(self.core.now())

    # --- attempts -----------------------------------------------------------------------------

    def caller(self) -> bytes:
        """Whom stickiness is about: the user that the client names, else the client."""
        if self.ask is not None and self.ask.user:
            return self.ask.user.encode()
        return self.headers.get(b"x-client-id") or payload.bearer(self.headers) or self.tenant

    def prompt(self) -> bytes:
        """The text, as it was sent."""
        return payload.prompt(self.ask)

    @property
    def route_model(self) -> str:
        """The model that is asked: the one that the client named, or a fallback."""
        return self.route.route.model if self.route is not None else self.model

    def attempt(self, now: float) -> None:
        """Ask the next target; give up where there is none, or no time or attempt is left."""
        route = self.route
        assert route is not None
        if self.attempts >= route.route.attempts or now >= self.deadline:
            self._give_up()
            return
        state = route.choose(self, self._tried, now)
        while state is None and self._fallbacks:
            self.route, self._fallbacks = self._fallbacks[0], self._fallbacks[1:]
            route = self.route
            state = route.choose(self, self._tried, now)
        if state is None:
            self._again()
            return
        self._tried.append(state)
        self.attempts += 1
        leg = Leg(self, route, state, now)
        self._legs.append(leg)
        leg.send(payload.request(self, state))

    def _again(self) -> None:
        """All targets were tried: once more after a pause, if any of them may be asked at all."""
        if not self._tried or self._rounds >= ROUNDS:
            self._give_up()
            return
        self._tried = []
        pause = random.uniform(0, RETRY_PAUSE_S * 2**self._rounds)
        self._rounds += 1
        self._retry = asyncio.get_running_loop().call_later(pause, lambda: self.attempt(self.core.now()))

    def leg_failed(self, leg: Leg, reason: str, *, timed_out: bool = False) -> None:
        """A target gave no answer."""
        if leg in self._legs:
            self._legs.remove(leg)
        if self.winner is leg:
            self.winner = None
        self._reason, self._timed_out = reason, timed_out
        if not self._legs and not self.response_complete:
            self.attempt(self.core.now())

    def broke_off(self, sent: bytes | None, reason: str) -> None:
        """A stream ended in the middle: another target goes on with it, if it can be taken over."""
        self.front.log_upstream(self, reason)
        self._legs.clear()
        self.winner = None
        words = continuation.said(sent) if sent is not None and self.upstream_path == payload.CHAT else None
        if words is None:
            self.interrupt()
            return
        self.partial += words
        self._reason = reason
        self.attempt(self.core.now())

    def won(self, leg: Leg) -> bool:
        """The first target that answers; the others are told that nobody waits."""
        if self.winner is None:
            self.winner = leg
            if len(self._legs) > 1:
                for other in self._legs:
                    if other is not leg:
                        other.drop()
                self._legs = [leg]
        return self.winner is leg

    def check(self, now: float) -> None:
        """Look at the time limits; called often."""
        if now >= self.deadline:
            self._expire()
            return
        if self.winner is not None or self.route is None or not self._legs:
            return
        settings, newest = self.route.route, self._legs[-1]
        if settings.first_token_seconds and now - newest.started >= settings.first_token_seconds:
            newest.fail("no first token in time", timed_out=True)
        elif settings.hedge_seconds and not self._hedged and now - newest.started >= settings.hedge_seconds:
            self._hedged = True
            if self.route.choose(self, self._tried, now) is not None:
                self.attempt(now)

    def _expire(self) -> None:
        self._timed_out = True
        for leg in list(self._legs):
            leg.expire()
        if not self.response_complete:
            self._give_up()

    def _give_up(self) -> None:
        if self._timed_out or self.core.now() >= self.deadline:
            error = ApiError(504, "The model did not answer in time.", ErrorType.UPSTREAM, code="timeout")
        elif self._reason.startswith("HTTP "):
            error = ApiError(502, "The model failed to answer.", ErrorType.UPSTREAM, code="upstream_error")
        elif self.attempts:
            error = ApiError(502, "The model cannot be reached.", ErrorType.UPSTREAM, code="unreachable")
        else:
            self.retry_after_s = 1.0
            error = ApiError(503, "The model is not available now.", ErrorType.UPSTREAM, code="unavailable")
        if self.attempts:
            self.front.log_upstream(self, self._reason)
        if self.streaming:
            self.interrupt(error if error.status == 504 else None)
        else:
            self.refuse(error)

    # --- ends ---------------------------------------------------------------------------------

    def answer(self, status: int, kind: bytes, body: bytes, label: bytes) -> None:
        """Answer with what a target said."""
        if status == 200:
            self.used = usage.of_answer(body)
            if self._cache_key is not None:
                self._keep(body)
        self._whole(status, kind, body, b"x-router-target: %s\r\n" % label)

    def answer_again(self, body: bytes) -> None:
        """Answer with what a target said to somebody who asked the same."""
        self._cache_key = None
        self._whole(200, b"application/json", body, b"x-cache: hit\r\n")

    def _whole(self, status: int, kind: bytes, body: bytes, extra: bytes) -> None:
        if self.dialect is not None:
            try:
                body = self._translated(status, body)
            except ApiError as error:
                self.refuse(error)
                return
        self.write(status, kind, body, extra)
        self.finish(status)

    def _translated(self, status: int, body: bytes) -> bytes:
        if status != 200:
            message = anthropic.message_of(body)
            raise ApiError(status, message, code="upstream_refused")
        return anthropic.answer(body, self.request_id.decode())

    def envelope(self, error: ApiError) -> bytes:
        """The body of an error, in the client's dialect."""
        return anthropic.error(error) if self.path == anthropic.PATH else super().envelope(error)

    def relay(self, data: bytes) -> bool:
        """Pass a piece of a stream on, in the client's dialect."""
        if self.dialect is not None and data:
            data = self.dialect.feed(data)
            self.used = self.dialect.used or self.used
        return super().relay(data)

    def _keep(self, body: bytes) -> None:
        key, self._cache_key = self._cache_key, None
        assert key is not None
        self.core.cache.put(key, body, self.core.now() + self._ttl_s)
        self.core.cache.settle(key, body)

    def finish(self, status: int) -> None:
        """All of it is written: account for it."""
        if self.response_complete:
            return
        self.response_complete = True
        core, account, winner = self.core, self.account, self.winner
        core.in_flight.discard(self)
        if self._retry is not None:
            self._retry.cancel()
        if self._leads and self._cache_key is not None:
            core.cache.settle(self._cache_key, None)
        if account is not None:
            tokens, cost = 0, 0.0
            if self.used is not None and winner is not None:
                tokens, cost = sum(self.used), winner.state.cost(*self.used)
            account.settle(self._estimated, tokens, self._held, cost)
        core.measures.end(self, status, core.now() - self.started)
        # Nothing may hold the legs in a circle: such garbage waits for the collector.
        self.winner, self._legs = None, []
        if not self.disconnected:
            self.front.finished(self.keep_alive)
