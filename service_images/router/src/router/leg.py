"""One attempt of a request: what one target answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router import continuation, sse, usage
from router.routes import Strategy

if TYPE_CHECKING:
    from router.exchange import Exchange
    from router.selection import RouteState
    from router.targets import TargetState

MAX_ANSWER_BYTES = 64 * 1024 * 1024
KEPT_FOR_FAILOVER = 1024 * 1024
"""Of a stream, to go on from where a target broke off; a longer one cannot be taken over."""


class Leg:
    """Takes one target's answer and hands it to the exchange."""

    __slots__ = (
        "_kind",
        "_pieces",
        "_reader",
        "_released",
        "_size",
        "_status",
        "_ticket",
        "exchange",
        "route",
        "started",
        "state",
    )

    def __init__(self, exchange: Exchange, route: RouteState, state: TargetState, now: float) -> None:
        self.exchange, self.route, self.state, self.started = exchange, route, state, now
        self._ticket = None
        self._status = 0
        self._kind = b"application/json"
        self._pieces: list[bytes] = []
        self._size = 0
        self._reader = sse.Reader()
        self._released = False

    def send(self, request: bytes) -> None:
        """Ask."""
        self.state.begin()
        self._ticket = self.state.pool.send(request, self)

    # --- the answer ---------------------------------------------------------------------------

    def on_head(self, status: int, kind: bytes) -> None:
        """Failures of the target are known from its status; everything else is the client's."""
        self._status = status
        if status >= 500 or status == 429:
            self.fail(f"HTTP {status}")
            return
        self._kind = kind
        if not self._streams and not self.exchange.won(self):
            self.drop()

    @property
    def _streams(self) -> bool:
        ask = self.exchange.ask
        return self._status == 200 and ask is not None and ask.stream

    def on_data(self, data: bytes) -> None:
        """A piece of a stream goes on at once; of a whole answer, it is kept."""
        if not self._streams:
            self._size += len(data)
            if self._size > MAX_ANSWER_BYTES:
                self.fail("the answer is too large")
                return
            self._pieces.append(data)
            return
        exchange = self.exchange
        if exchange.winner is not self:
            if not exchange.won(self):
                self.drop()
                return
            if not exchange.streaming:
                self._begin_stream()
        try:
            events = self._reader.feed(data)
        except sse.EventTooLarge as error:
            self._cancel()
            self.on_failure(str(error))
            return
        if events and not exchange.relay(self._filtered(events)):
            self._pause()

    def _begin_stream(self) -> None:
        exchange = self.exchange
        exchange.begin_stream(self.state.label_bytes)
        exchange.core.measures.first_token.observe((exchange.model,), exchange.core.now() - exchange.started)

    def _filtered(self, events: bytes) -> bytes:
        """Whole events: the usage is read, and taken out where only the router asked for it."""
        exchange = self.exchange
        if self._size < KEPT_FOR_FAILOVER:
            self._pieces.append(events)
            self._size += len(events)
        if exchange.partial:
            events = continuation.without_role(events)
        if not usage.told(events):
            return events
        exchange.used = usage.of_events(events) or exchange.used
        return continuation.without_usage(events) if exchange.hides_usage else events

    def on_end(self) -> None:
        """All of it is here."""
        exchange = self.exchange
        seconds = self._release(True)
        if not self._streams:
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            exchange.answer(self._status, self._kind, body, self.state.label_bytes)
            self._observe(True, seconds)
            return
        if exchange.winner is not self and not exchange.won(self):
            return
        if not exchange.streaming:
            self._begin_stream()
        last = self._reader.end()
        exchange.end_stream(self._filtered(last) if last else b"")
        self._observe(True, seconds)

    def on_failure(self, reason: str) -> None:
        """The target is not there, or broke off."""
        exchange = self.exchange
        seconds = self._release(False)
        self._observe(False, seconds)
        if exchange.streaming and exchange.winner is self:
            exchange.broke_off(b"".join(self._pieces) if self._size < KEPT_FOR_FAILOVER else None, reason)
        else:
            exchange.leg_failed(self, reason)

    # --- ends that are not the target's ---------------------------------------------------------

    def fail(self, reason: str, *, timed_out: bool = False) -> None:
        """Count it as failed, whatever may still come."""
        if self._released:
            return
        self._cancel()
        self._observe(False, self._release(False))
        self.exchange.leg_failed(self, reason, timed_out=timed_out)

    def expire(self) -> None:
        """The request's time is up; this target had its share of it."""
        if not self._released:
            self._cancel()
            self._observe(False, self._release(False))

    def drop(self) -> None:
        """Nobody waits for this target any more."""
        if not self._released:
            self._cancel()
            self._release(None)

    def _cancel(self) -> None:
        if self._ticket is not None:
            self._ticket.cancel()

    def _release(self, ok: bool | None) -> float:
        now = self.exchange.core.now()
        seconds = now - self.started
        if not self._released:
            self._released = True
            self.state.end(ok, seconds, now)
        return seconds

    def _observe(self, ok: bool, seconds: float) -> None:
        exchange = self.exchange
        cost = self.state.cost(*exchange.used) if exchange.used is not None else 0.0
        self.route.observe(self.state, ok, seconds, cost)
        if ok and self.route.route.strategy is Strategy.BANDIT:
            exchange.core.answered(exchange.request_id, self.route, self.state.label)
        outcome = "ok" if ok else "failed"
        exchange.core.measures.upstream.values[self.route.route.model, self.state.label, outcome] += 1

    # --- flow -----------------------------------------------------------------------------------

    def _pause(self) -> None:
        if self._ticket is not None and self._ticket.connection is not None:
            self._ticket.connection.pause()

    def resume(self) -> None:
        """The client keeps up again."""
        if self._ticket is not None and self._ticket.connection is not None and not self._released:
            self._ticket.connection.resume()
