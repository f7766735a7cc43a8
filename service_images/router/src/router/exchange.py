"""One request on the fast path, from its first header to the last byte of its answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from kit import logs
from kit.errors import ApiError, ErrorType

from router import anthropic, continuation, payload, sse, usage
from router.admission import MAX_BODY_BYTES, Admission
from router.leg import Leg

if TYPE_CHECKING:
    from router.core import Core
    from router.front import Front
    from router.guarded import Guarded
    from router.targets import TargetState

log = logs.get("router.exchange")
HTTP_OK = 200
ROUNDS = 3
"""Times that all targets are asked once more."""
RETRY_PAUSE_S = 0.05  # at most, before a target is asked again; doubles, and is random, so that callers spread


class Exchange(Admission):
    """A request: admitted, sent to targets until one answers, accounted for."""

    used: tuple[int, int] | None = None
    """(input, output) tokens, once the answer has told."""
    attempts = 0
    hides_usage = False
    """Whether the usage at the end of a stream is the router's own wish."""
    partial = ""
    """What a target said before it broke off, for the next one to go on with."""
    _turn = False
    _hedged = False
    _rounds = 0
    _reason = "no target is available"
    _timed_out = False
    _retry: asyncio.TimerHandle | None = None
    stream_guard: Guarded | None = None
    """Whom a stream passes on its way."""

    def __init__(self, front: Front, core: Core, path: bytes, headers: dict[bytes, bytes]) -> None:
        self.front, self.core, self.path, self.upstream_path = front, core, path, path
        self.path_text = payload.TEXTS[path]
        self.headers = headers
        self.started = core.now()
        given = headers.get(b"x-request-id")
        self.request_id = given if given and payload.is_request_id(given) else core.request_id()
        self._pieces: list[bytes] = []
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
        self.size += len(data)
        if self.size <= MAX_BODY_BYTES:
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
            self.admit()
        except Exception as error:
            self.failed(error)

    # --- guardrails -----------------------------------------------------------------------------

    def marks(self) -> bytes:
        """Whether a text was not checked that the route wants to be checked."""
        return b"x-guardrails: unchecked\r\n" if self.guard_unchecked else b""

    def begin_stream(self, label: bytes) -> None:
        """The head of a stream, which may have to pass Guardrails."""
        super().begin_stream(label)
        if self.guarded_action and self.stream_guard is None:
            from router.guarded_chat import GuardedChat
            from router.guarded_responses import GuardedResponses

            assert self.core.guard is not None, "it has looked at the request"
            guarding = GuardedResponses if self.upstream_path == b"/v1/responses" else GuardedChat
            self.stream_guard = guarding(self.core.guard, self)

    def guarded(self, data: bytes) -> None:
        """A piece of a stream that may go on."""
        if not self.response_complete:
            self._relay(data)

    def guarded_end(self, status: int) -> None:
        """All of a stream has gone on."""
        if not self.response_complete:
            self._end_stream(b"", status)

    def guarded_break(self, error: ApiError) -> None:
        """A stream must not go on, since nobody looks at it."""
        self.guarded(sse.event(msgspec.json.encode(error.envelope())))
        self.guarded_stop(error.status)

    def guarded_stop(self, status: int = HTTP_OK) -> None:
        """The target may stop: nothing of it goes on any more."""
        for leg in list(self._legs):
            leg.drop()
        self.guarded_end(status)

    async def _look_at_output(self, body: bytes, rest: Callable[[bytes], None]) -> None:
        from router import guard as looking

        assert self.core.guard is not None, "it has looked at the request"
        try:
            content = looking.decode(body)
        except (ValueError, RecursionError):
            message = "The model's answer is no JSON, so that nobody can check it."
            raise ApiError(502, message, ErrorType.UPSTREAM, code="bad_answer") from None
        action = await self.core.guard.look(self, looking.messages.DIRECTION_OUTPUT, content)
        if action == "block":
            content = looking.filtered(content) if isinstance(content, dict) else None
        # What goes on is what was checked: another reader may take a name that stands there twice otherwise.
        changed = looking.encode(content)
        if not self.response_complete and not self.disconnected:
            rest(changed)

    def on_shared(self, body: bytes | None) -> None:
        """The answer to an equal request, or None: it failed, so this one asks for itself."""
        if self.response_complete or self.disconnected:
            return
        self.cache_key = None
        if body is not None:
            self.answer_again(body)
            return
        assert self.route is not None
        self.fallbacks = self.route.fallbacks
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
        while state is None and self.fallbacks:
            self.route, self.fallbacks = self.fallbacks[0], self.fallbacks[1:]
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
        self._log_upstream(reason)
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
            self._log_upstream(self._reason)
        if self.streaming:
            self.interrupt(error if error.status == 504 else None)
        else:
            self.refuse(error)

    def _log_upstream(self, reason: str) -> None:
        """No target answered."""
        log.warning("upstream failed", model=self.model, reason=reason, trace_id=self.trace_id.decode())

    # --- ends ---------------------------------------------------------------------------------

    def answer(self, status: int, kind: bytes, body: bytes, label: bytes) -> None:
        """Answer with what a target said."""
        if status == 200:
            self.used = usage.of_answer(body)
            if self.guarded_action and self.upstream_path != payload.EMBEDDINGS:
                self.beside(self._look_at_output(body, lambda seen: self._answered(status, kind, seen, label)))
                return
        self._answered(status, kind, body, label)

    def _answered(self, status: int, kind: bytes, body: bytes, label: bytes) -> None:
        """Where Guardrails has looked, what it lets go on is what is kept."""
        if status == HTTP_OK and self.cache_key is not None:
            self._keep(body)
        self._whole(status, kind, body, b"x-router-target: %s\r\n%s" % (label, self.marks()))

    def answer_again(self, body: bytes) -> None:
        """Answer with what a target said to somebody who asked the same."""
        self.cache_key = None
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
        """Pass a piece of a stream on, through Guardrails if it looks at this one."""
        if self.stream_guard is not None:
            self.stream_guard.feed(data)
            return not self.front.flow.write_paused
        return self._relay(data)

    def end_stream(self, data: bytes = b"", status: int = HTTP_OK) -> None:
        """The end of a stream, once all of it has gone on."""
        if self.stream_guard is not None and not self.stream_guard.ended:
            self.stream_guard.end(data, status)
        elif self.stream_guard is None:
            self._end_stream(data, status)

    def _end_stream(self, data: bytes, status: int) -> None:
        self._relay(data)
        if self.chunked:
            self.front.transport.write(b"0\r\n\r\n")
        self.finish(status)

    def _relay(self, data: bytes) -> bool:
        """In the client's dialect."""
        if self.dialect is not None and data:
            data = self.dialect.feed(data)
            self.used = self.dialect.used or self.used
        return super().relay(data)

    def finish(self, status: int) -> None:
        """All of it is written: account for it."""
        if self.response_complete:
            return
        self.response_complete = True
        if self.stream_guard is not None:
            if not self.stream_guard.ended:
                self.stream_guard.cancel()
            self.stream_guard = None
        core, account, winner = self.core, self.account, self.winner
        core.in_flight.discard(self)
        if self._retry is not None:
            self._retry.cancel()
        if self.leads and self.cache_key is not None:
            core.cache.settle(self.cache_key, None)
        tokens, cost = 0, 0.0
        if self.used is not None and winner is not None:
            tokens, cost = sum(self.used), winner.state.cost(*self.used)
        if account is not None:
            account.settle(self.estimated, tokens, self.held, cost)
        seconds = core.now() - self.started
        core.measures.end(self, status, seconds)
        if core.metering is not None and (self.used is not None or status == HTTP_OK):
            core.metering.record(self, status, seconds, winner.state.label if winner is not None else "", cost)
        # Nothing may hold the legs in a circle: such garbage waits for the collector.
        self.winner, self._legs = None, []
        if not self.disconnected:
            self.front.finished(self.keep_alive)
