"""One attempt of a request: the call of one target."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kit import logs
from kit.errors import ApiError

from router import continuation, sse, to_anthropic, upstream, usage
from router.counting import Streamed

if TYPE_CHECKING:
    from router.answer import Answer
    from router.model_call import ModelCall
    from router.selection import RouteState
    from router.targets import TargetState

log = logs.get("router.leg")
MAX_ANSWER_BYTES = 64 * 1024 * 1024
KEPT_FOR_FAILOVER = 1024 * 1024
"""Maximum bytes of a stream that are kept to continue it on another target; longer streams cannot be continued."""


class Leg:
    """Receives one target's answer and passes it to the exchange."""

    # Defaults on the class, for fields that most answers never change, as in `Answer`.
    _ticket: upstream.Ticket | None = None
    _status = 0
    _kind = b"application/json"
    _size = 0
    _reader: sse.Reader | None = None
    _chat: to_anthropic.Stream | None = None
    """Translates a stream of Anthropic's API to chunks of a chat completion."""
    _beyond: Streamed | None = None
    """Counter for a stream that is too long to be kept."""
    _streams: bool | None = False
    """Whether the answer is an event stream; None until its first byte decides."""
    _released = False
    hedge = False
    noted = False
    call: ModelCall | None = None

    def __init__(self, exchange: Answer, route: RouteState, state: TargetState, now: float) -> None:
        self.exchange, self.route, self.state, self.started = exchange, route, state, now
        self._pieces: list[bytes] = []

    @property
    def model(self) -> str:
        """Model of the attempt's route."""
        return self.route.route.model

    def send(self, request: bytes) -> None:
        """Send the request to the target."""
        self.state.begin()
        self._ticket = self.state.pool.send(request, self)

    # --- the answer ---------------------------------------------------------------------------

    def on_head(self, status: int, kind: bytes, after: bytes) -> None:
        """The status decides whether the target has failed; every other answer goes to the client."""
        self._status = status
        if self.call is not None:
            self.call.answers(status)
        if status >= 500 or status == 429:
            if after and (seconds := upstream.seconds(after, time.time())):
                self._refused(f"HTTP {status}", seconds)
            else:
                self.fail(f"HTTP {status}")
            return
        if status in (401, 403) and self.state.credential.value:
            log.error("a model server refuses the platform's credential", target=self.state.label, status=status)
            self.fail(f"HTTP {status}")
            return
        self._kind = kind
        if status == 200 and self.exchange.streams:
            self._streams = None
        elif not self.exchange.won(self):
            self.drop()

    def on_data(self, data: bytes) -> None:
        """Forward a piece of a stream at once; keep a piece of a whole answer."""
        if self._streams is None:
            data = self._first(data)
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
        assert self._reader is not None, "created with the first byte"
        try:
            events = self._reader.feed(data)
        except sse.EventTooLarge as error:
            self._cancel()
            self.on_failure(str(error))
            return
        events = self.state.credential.hide(events)
        if self._chat is not None:
            events = self._chat.feed(events)
        if events and not exchange.relay(self._filtered(events)):
            self._pause()

    def _first(self, data: bytes) -> bytes:
        """Data so far, once its first byte shows whether it is a stream, since servers send wrong content types."""
        data = b"".join((*self._pieces, data))
        self._pieces.clear()
        self._size = 0
        if begins := data.lstrip()[:1]:
            self._streams = begins not in (b"{", b"[")
            if self._streams:
                self._reader = sse.Reader()
                self._chat = to_anthropic.Stream() if self.state.messages else None
            elif not self.exchange.won(self):
                self.drop()
        return data

    def _inside(self, body: bytes) -> bytes:
        """A whole answer as a chat completion, without our credential. Raises ApiError(502)."""
        if self._status == 200:
            return to_anthropic.answer(body) if self.state.messages else body
        return self.state.credential.hide(body)

    def _begin_stream(self) -> None:
        exchange = self.exchange
        exchange.begin_stream(self.state.label_bytes)
        exchange.first_token_s = seconds = exchange.core.now() - exchange.started
        exchange.core.measures.first_piece(exchange, seconds)
        if self.call is not None:
            self.call.first_piece(exchange.core.now() - self.started)

    def _filtered(self, events: bytes) -> bytes:
        """Read the usage of complete events, and remove it if only the Router has requested it."""
        exchange = self.exchange
        if self._beyond is not None:
            self._beyond.feed(events)
        else:
            self._pieces.append(events)
            self._size += len(events)
            if self._size >= KEPT_FOR_FAILOVER:
                self._beyond = Streamed()
                self._beyond.feed(b"".join(self._pieces))
                self._pieces.clear()
        if exchange.partial:
            events = continuation.without_role(events)
        if not usage.may_report(events):
            return events
        exchange.reported = usage.of_events(events) or exchange.reported
        return continuation.without_usage(events) if exchange.hides_usage else events

    def streamed(self) -> int:
        """Counted output tokens of the stream so far."""
        if not self._streams:
            return 0
        if self._beyond is not None:
            return self._beyond.tokens
        counted = Streamed()
        counted.feed(b"".join(self._pieces))
        return counted.tokens

    def on_end(self) -> None:
        """The answer is complete."""
        exchange = self.exchange
        if self._streams is None:
            self.fail("an empty answer")
            return
        seconds = self._release(True)
        if not self._streams:
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            try:
                body = self._inside(body)
            except ApiError as error:
                exchange.unreported = body
                exchange.refuse(error)
                self._observe(False, seconds)
                return
            if self._status == 200 and exchange.streams:
                exchange.answer_whole(body, self.state.label_bytes)
            else:
                exchange.answer(self._status, self._kind, body, self.state.label_bytes)
            self._observe(True, seconds)
            return
        if exchange.winner is not self and not exchange.won(self):
            return
        if not exchange.streaming:
            self._begin_stream()
        assert self._reader is not None, "created with the first byte"
        last = self._reader.end()
        if self._chat is not None:
            last = self._chat.feed(last)
        exchange.end_stream(self._filtered(last) if last else b"")
        self._observe(True, seconds)

    def on_failure(self, reason: str) -> None:
        """The target is unreachable, or has closed the connection."""
        exchange = self.exchange
        seconds = self._release(False)
        self._observe(False, seconds)
        if exchange.streaming and exchange.winner is self:
            exchange.broke_off(self, None if self._beyond is not None else b"".join(self._pieces), reason)
        else:
            exchange.leg_failed(self, reason)

    # --- ends that the target has not caused ----------------------------------------------------

    def fail(self, reason: str, *, timed_out: bool = False) -> None:
        """Count the attempt as failed, and ignore any further data."""
        if self._released:
            return
        if timed_out:
            self._worked()
        self._cancel()
        self._observe(False, self._release(False))
        self.exchange.leg_failed(self, reason, timed_out=timed_out)

    def _refused(self, reason: str, seconds: float) -> None:
        """Do not call the target for some seconds."""
        now = self.exchange.core.now()
        self._cancel()
        took = self._release(False)
        self.state.breaker.wait(seconds, now)
        self._observe(False, took)
        self.exchange.leg_failed(self, reason)

    def expire(self) -> None:
        """The request's time limit is reached, after this target had its share of the time."""
        if not self._released:
            self._worked()
            self._cancel()
            self._observe(False, self._release(False))

    def drop(self, *, counts: bool = False) -> None:
        """Cancel the attempt. `counts`: its usage is charged to the request nevertheless."""
        if not self._released:
            if counts:
                self._worked()
            self._cancel()
            self._release(None)

    def _worked(self) -> None:
        """Charge for a model that has read the request, even without an answer."""
        if self._ticket is not None and self._ticket.connection is not None and self.exchange.served_by is None:
            self.exchange.served_by = self.state

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
        asked, said = exchange.reported or (None, None)
        self.route.observe(self.state, ok, seconds, self.state.cost(asked or 0, said or 0))
        if ok and self.route.bandit:
            own = exchange.tenant, exchange.digest, exchange.request_id
            exchange.core.answered(*own, self.route, self.state.label)
        outcome = "ok" if ok else "failed"
        exchange.core.measures.upstream.values[self.route.route.model, self.state.label, outcome] += 1

    # --- flow -----------------------------------------------------------------------------------

    def _pause(self) -> None:
        if self._ticket is not None and self._ticket.connection is not None:
            self._ticket.connection.pause()

    def resume(self) -> None:
        """The client is ready for more data."""
        if self._ticket is not None and self._ticket.connection is not None and not self._released:
            self._ticket.connection.resume()
