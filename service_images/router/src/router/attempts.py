"""Attempts of a request: targets are called one after the other, or concurrently, until one answers."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from kit import logs
from kit.errors import ApiError, ErrorType

from router import bodies, continuation, payload, trail
from router.admission import Admission
from router.leg import Leg
from router.tried import Outcome

if TYPE_CHECKING:
    from router.request import Attempt

log = logs.get("router.attempts")
ROUNDS = 3
"""Number of further rounds over all targets."""
RETRY_PAUSE_S = 0.05  # longest first pause; doubles per round, with jitter, so that callers spread
OVERLOADED_S = 1.0
"""Retry-After in seconds if an upstream has refused without naming a time."""


class Attempts(Admission):
    """The upstream side of a request."""

    def caller(self) -> bytes:
        """Key for stickiness: the user that the client names, otherwise the client."""
        if self.ask is not None and self.ask.user:
            return self.ask.user.encode()
        return self.headers.get(b"x-client-id") or payload.bearer(self.headers) or self.tenant

    def prompt(self) -> bytes:
        """The request's text, as it was sent."""
        return payload.prompt(self.ask)

    def attempt(self, now: float) -> None:
        """Call the next target. Give up if there is none, or if no time or attempt is left."""
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
            self._again(now)
            return
        self._tried.append(state)
        self.attempts += 1
        if state.outside and not state.credential.value:
            self._reason = "the credential is missing"
            self.attempt(now)
            return
        call = self.core.measures.call(self, state, route.route.model) if self.span is not None else None
        try:
            request = payload.request(self, state, self.traceparent if call is None else call.traceparent)
        except ApiError as error:
            self.refuse(error)  # the target does not support the request
            return
        leg = Leg(self, route, state, now)
        leg.call = call
        if self._legs:
            leg.hedge = True
            if call is not None:
                call.hedged()
        self._legs.append(leg)
        self.choice = route.choice if now < route.choice_until else route.described_choice(now)
        leg.send(request)

    def _again(self, now: float) -> None:
        """After all targets have failed: start another round after a pause, if a target may be called then."""
        pause = RETRY_PAUSE_S * 2**self._rounds
        waits = [state.breaker.retry_after_s(now) for state in self._tried]
        if not waits or self._rounds >= ROUNDS or min(waits) > pause:
            self._give_up()
            return
        self._tried = []
        self._rounds += 1
        self._retry = asyncio.get_running_loop().call_later(
            random.uniform(min(waits), pause), lambda: self.attempt(self.core.now())
        )

    def leg_failed(self, leg: Attempt, reason: str, *, timed_out: bool = False) -> None:
        """An attempt has failed."""
        trail.note(self, leg, self.core.now(), Outcome.TIMED_OUT if timed_out else Outcome.FAILED, reason)
        if leg in self._legs:
            self._legs.remove(leg)
        if self.winner is leg:
            self.winner = None
        self._reason, self._timed_out = reason, timed_out
        if not self._legs and not self.response_complete:
            self.attempt(self.core.now())

    def broke_off(self, leg: Attempt, sent: bytes | None, reason: str) -> None:
        """A stream was interrupted: another target continues it, if possible."""
        self._log_upstream(reason)
        trail.note(self, leg, self.core.now(), Outcome.INTERRUPTED, reason)
        said = self.reported[1] if self.reported is not None else None
        self.earlier += leg.streamed() if said is None else said
        self.reported = None
        self._legs.clear()
        self.winner = None
        words = continuation.said(sent) if sent is not None and self.upstream_path == payload.CHAT else None
        if words is None:
            self.interrupt()
            return
        self.partial += words
        self._reason = reason
        self.attempt(self.core.now())

    def won(self, leg: Attempt) -> bool:
        """The first target answers. Requests to all others are cancelled."""
        if self.winner is None:
            self.winner, self.served_by = leg, leg.state
            if len(self._legs) > 1:
                for other in self._legs:
                    if other is not leg:
                        trail.note(self, other, self.core.now(), Outcome.OVERTAKEN)
                        other.drop()
                self._legs = [leg]
        return self.winner is leg

    def check(self, now: float) -> None:
        """Check the time limits. Called frequently."""
        if self.more_body:
            if now - self.started >= bodies.BODY_S:
                self.keep_alive = False
                self.refuse(bodies.too_slow())
            return
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

    def abandon(self) -> None:
        """The client has disconnected: cancel all attempts."""
        for leg in self._legs:
            trail.note(self, leg, self.core.now(), Outcome.STOPPED, "the client has disconnected")
            leg.drop(counts=True)

    def _expire(self) -> None:
        self._timed_out = True
        for leg in list(self._legs):
            trail.note(self, leg, self.core.now(), Outcome.TIMED_OUT, "the time limit of the request")
            leg.expire()
        if not self.response_complete:
            self._give_up()

    def _give_up(self) -> None:
        error = self._failure()
        if self.attempts:
            self._log_upstream(self._reason)
        if self.streaming:
            self.interrupt(error if error.status == 504 else None)
        else:
            self.refuse(error)

    def _failure(self) -> ApiError:
        """The error for the client after all attempts have failed."""
        now = self.core.now()
        if self._timed_out or now >= self.deadline:
            return ApiError(504, "The model did not answer in time.", ErrorType.UPSTREAM, code="timeout")
        retry_after = self._retry_after(now)
        if retry_after is not None or self._reason == "HTTP 429":
            # The upstream has refused this very request for a time, so the client may retry after that time.
            self.retry_after_s = retry_after if retry_after is not None else OVERLOADED_S
            message = "The model accepts no more requests now. Try again after the time in Retry-After."
            return ApiError(429, message, ErrorType.RATE_LIMIT, code="upstream_rate_limited")
        if self._reason.startswith("HTTP "):
            return ApiError(502, "The model failed to answer.", ErrorType.UPSTREAM, code="upstream_error")
        if self.attempts:
            return ApiError(502, "The model cannot be reached.", ErrorType.UPSTREAM, code="unreachable")
        self.retry_after_s = 1.0
        return ApiError(503, "The model is unavailable. Try again later.", ErrorType.UPSTREAM, code="unavailable")

    def _retry_after(self, now: float) -> float | None:
        """Seconds until a target that has sent Retry-After may be called again; None if no target has sent it."""
        routes = [] if self.route is None else [self.route, *self.fallbacks]
        waits = [state.breaker.retry_after_s(now) for route in routes for state in route.targets]
        return min((wait for wait in waits if wait), default=None)

    def _log_upstream(self, reason: str) -> None:
        """Log that no target has answered."""
        log.warning("upstream failed", model=self.model, reason=reason, trace_id=self.trace_id.decode())
