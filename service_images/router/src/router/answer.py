"""Writes the answer to the client: as a whole, as a stream, or as an error."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import msgspec
from kit import logs
from kit.drain import DRAIN
from kit.errors import ApiError, ErrorType

from router import errors, sse
from router.request import Attempt, Request

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl

    from router.core import Core


log = logs.get("router.answer")
_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class Connection(Protocol):
    """Interface of the client's connection."""

    transport: asyncio.Transport
    flow: FlowControl

    def finished(self, keep_alive: bool) -> None:
        """The current request is answered."""


class Answer(Request):
    """The client side of a request. It has the interface of the server's own request cycles."""

    front: Connection
    core: Core

    def refuse(self, error: ApiError) -> None:
        """Answer with an error."""
        extra = b""
        if error.status in (429, 503):
            extra = b"retry-after: %d\r\n" % max(1, round(self.retry_after_s + 0.5))
        self.write(error.status, b"application/json", self.envelope(error), extra)
        self.finish(error.status)

    def envelope(self, error: ApiError) -> bytes:
        """The body of an error."""
        return msgspec.json.encode(errors.envelope(error))

    def write(self, status: int, kind: bytes, body: bytes, extra: bytes) -> None:
        """Write the complete answer: head and body."""
        closing = DRAIN.begun or not self.keep_alive
        if closing:
            self.keep_alive = False
            extra += b"connection: close\r\n"
        self.front.transport.write(
            b"%scontent-type: %s\r\ncontent-length: %d\r\ncache-control: no-store\r\nx-request-id: %s\r\n%s%s\r\n%s"
            % (
                _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status,
                kind,
                len(body),
                self.request_id,
                self.api_headers(),
                extra,
                body,
            )
        )

    def begin_stream(self, label: bytes) -> None:
        """Write the head of a stream."""
        self.streaming = True
        if DRAIN.begun or not self.chunked:
            self.keep_alive = False
        self.front.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
            b"x-request-id: %s\r\n%s%s%s%s%s\r\n"
            % (
                self.request_id,
                self.target_shown(label),
                self.api_headers(),
                self.marks(),
                b"transfer-encoding: chunked\r\n" if self.chunked else b"",
                b"" if self.keep_alive else b"connection: close\r\n",
            )
        )

    def api_headers(self) -> bytes:
        """Headers specific to the client's API."""
        return b""

    def target_shown(self, label: bytes) -> bytes:
        """Header with the target, for operators only, since it reveals internal hosts."""
        return b""

    def marks(self) -> bytes:
        """Additional headers of this answer."""
        return b""

    def relay(self, data: bytes) -> bool:
        """Forward a piece of a stream. Returns False if the client is too slow."""
        if data:
            if self.recorded is not None:
                self.record(data)
            self.front.transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)
        return not self.front.flow.write_paused

    def record(self, data: bytes) -> None:
        """Record a piece of a stream."""
        raise NotImplementedError

    def end_stream(self, data: bytes = b"", status: int = 200) -> None:
        """End a stream."""
        self.relay(data)
        if self.chunked:
            self.front.transport.write(b"0\r\n\r\n")
        self.finish(status)

    def interrupt(self, error: ApiError | None = None) -> None:
        """End a stream with an error event, since the status line is already sent."""
        error = error or ApiError(
            502, "The model's answer was interrupted.", ErrorType.UPSTREAM, code="stream_interrupted"
        )
        self.end_stream(sse.event(msgspec.json.encode(errors.envelope(error))), error.status)

    def writable(self) -> None:
        """The client is ready for more data."""
        if self.winner is not None:
            self.winner.resume()

    def log_fault(self, error: Exception) -> None:
        """Log an internal error."""
        log.error(
            "unexpected error",
            request_id=self.request_id.decode(),
            trace_id=self.trace_id.decode(),
            exc_info=error,
        )

    def finish(self, status: int) -> None:
        """The answer is written completely."""
        raise NotImplementedError

    # --- called by attempts, see `leg.py` --------------------------------------------------------

    def won(self, leg: Attempt) -> bool:
        """Whether this is the first target that answers."""
        raise NotImplementedError

    def leg_failed(self, leg: Attempt, reason: str, *, timed_out: bool = False) -> None:
        """A target has failed without an answer."""
        raise NotImplementedError

    def broke_off(self, leg: Attempt, sent: bytes | None, reason: str) -> None:
        """A stream was interrupted."""
        raise NotImplementedError

    def answer(self, status: int, kind: bytes, body: bytes, label: bytes) -> None:
        """Answer with a target's answer."""
        raise NotImplementedError

    def answer_whole(self, body: bytes, label: bytes) -> None:
        """Answer a request for a stream with a whole answer of a target."""
        raise NotImplementedError

    # --- called after Guardrails' verdicts, see `guarded.py` -------------------------------------

    def guarded(self, data: bytes) -> None:
        """Forward a checked piece of a stream."""
        raise NotImplementedError

    def guarded_end(self, status: int) -> None:
        """All of a stream was checked and forwarded."""
        raise NotImplementedError

    def guarded_break(self, error: ApiError) -> None:
        """Interrupt a stream, because it cannot be checked."""
        raise NotImplementedError

    def guarded_stop(self, status: int = 200) -> None:
        """Stop the target: nothing more of its stream will be forwarded."""
        raise NotImplementedError
