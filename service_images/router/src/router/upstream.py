"""Persistent connections to upstreams, with one request at a time each. Answers are forwarded as they arrive.

Callbacks instead of coroutines: a request through the Router creates no task and awaits nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from email.utils import parsedate_to_datetime
from typing import Protocol

import httptools

from router.heads import Heads

CONNECT_TIMEOUT_S = 5.0
IDLE_CONNECTIONS = 256
"""Maximum idle connections per upstream."""
_FRAMING = {b"content-length", b"transfer-encoding"}
_FRAMING_LENGTHS = {len(name) for name in _FRAMING}
_TYPE, _LENGTH, _AFTER = len("content-type"), len("content-length"), len("retry-after")
MOST_PATIENCE_S = 86_400.0
"""Maximum Retry-After in seconds; a longer one is a mistake, or the target needs an operator."""


class Sink(Protocol):
    """Receiver of an answer. Exactly one of `on_end` and `on_failure` is called, once, as the last call."""

    def on_head(self, status: int, kind: bytes, after: bytes) -> None:
        """The status line and headers have arrived; `kind` is the content type, `after` the value of Retry-After."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body has arrived."""

    def on_end(self) -> None:
        """The answer is complete."""

    def on_failure(self, reason: str) -> None:
        """The answer is not complete, and will not be."""


class Connection(asyncio.Protocol):
    """One connection to an upstream."""

    __slots__ = (
        "_after",
        "_between",
        "_framed",
        "_kind",
        "_length",
        "_message",
        "_parser",
        "_pool",
        "_sink",
        "_status",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._sink: Sink | None = None
        self._kind = b"application/json"
        self._after = b""
        self._status = 0
        self._framed = False
        self._between = True
        self._length = self._message = b""
        self.transport: asyncio.Transport = None  # type: ignore[assignment]

    # Called by the pool and by the receiver

    def send(self, request: bytes, sink: Sink) -> None:
        """Write a request; its answer goes to `sink`."""
        self._sink = sink
        self._status = 0
        self.transport.write(request)

    def abort(self) -> None:
        """Close the connection, because the answer is not needed anymore."""
        self._sink = None
        self.transport.abort()

    def pause(self) -> None:
        """Pause reading."""
        self.transport.pause_reading()

    def resume(self) -> None:
        """Continue reading."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Disable Nagle's algorithm; otherwise an answer may wait 40 ms for an acknowledgement."""
        self.transport = transport  # type: ignore[assignment]
        if (sock := transport.get_extra_info("socket")) is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls back, unless the data is a complete answer with a known head."""
        self._message = b""
        if self._between:
            found = self._pool.heads.read(data)
            if found is not None and self._sink is not None:
                self._again(found[0], found[2])
                return
            self._message = data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not HTTP: {error}")
            self.transport.abort()

    def _again(self, known: tuple[int, bytes, bytes], body: bytes) -> None:
        self._status, self._kind, self._after = known
        self._framed = True
        self.on_head()
        self.on_body(body)
        self._answered(True)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, which ends an answer without a length, or interrupts one."""
        self._pool.forget(self)
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if self._status and not self._framed and exc is None:
            sink.on_end()
        else:
            sink.on_failure("closed" if exc is None else str(exc) or type(exc).__name__)

    def _fail(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_failure(reason)

    # httptools

    def on_message_begin(self) -> None:
        """A new answer begins."""
        self._between = False
        self._kind = b"application/json"
        self._after = b""
        self._framed = False
        self._length = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Process one header. Only relevant ones are read, selected by their length first."""
        length = len(name)
        if length == _TYPE and name.lower() == b"content-type":
            self._kind = value
        elif length == _AFTER and name.lower() == b"retry-after":
            self._after = value
        elif length in _FRAMING_LENGTHS and name.lower() in _FRAMING:
            # A second length, or chunks, make the length invalid.
            self._length = value if length == _LENGTH and not self._framed else b"-"
            self._framed = True

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._status = self._parser.get_status_code()
        self.on_head()

    def on_head(self) -> None:
        """Report status and content type."""
        if self._sink is not None and self._status >= 200:
            self._sink.on_head(self._status, self._kind, self._after)

    def on_body(self, body: bytes) -> None:
        """Receive a piece of the body."""
        if self._sink is not None:
            self._sink.on_data(body)

    def on_message_complete(self) -> None:
        """The answer is complete. The connection may be used again."""
        self._between = True
        if self._status < 200:
            return  # interim responses, such as 100 Continue, precede the answer
        keeps = self._parser.should_keep_alive()
        if keeps and self._message:
            self._pool.heads.keep(self._message, self._length, (self._status, self._kind, self._after))
        self._answered(keeps)

    def _answered(self, keeps: bool) -> None:
        sink, self._sink = self._sink, None
        if keeps:
            self._pool.give_back(self)
        else:
            self.transport.close()
        if sink is not None:
            sink.on_end()


def seconds(after: bytes, now: float) -> float:
    """Seconds of a Retry-After, a number or a date; `now` in seconds since 1970. 0 if it is invalid or has passed."""
    text = after.decode("latin-1").strip()
    try:
        found = float(text)
    except ValueError:
        try:
            found = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return 0.0
    return min(found, MOST_PATIENCE_S) if found > 0 else 0.0


class Pool:
    """Connections to one origin."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self.heads: Heads[tuple[int, bytes, bytes]] = Heads()
        """(status, content type, Retry-After) of answers."""
        self._idle: deque[Connection] = deque()
        self._connecting: set[asyncio.Task[None]] = set()

    def send(self, request: bytes, sink: Sink) -> Ticket:
        """Send on an idle connection or a new one. The ticket can cancel the request."""
        ticket = Ticket()
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                ticket.connection = connection
                connection.send(request, sink)
                return ticket
        task = asyncio.get_running_loop().create_task(self._connect(request, sink, ticket))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return ticket

    async def _connect(self, request: bytes, sink: Sink, ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError, ssl.SSLError) as error:
            if not ticket.cancelled:
                sink.on_failure(f"unreachable: {error or type(error).__name__}")
            return
        if ticket.cancelled:
            self.give_back(connection)
            return
        ticket.connection = connection
        connection.send(request, sink)

    def give_back(self, connection: Connection) -> None:
        """Keep an idle connection, unless there are enough."""
        if len(self._idle) < IDLE_CONNECTIONS and not connection.transport.is_closing():
            self._idle.append(connection)
        else:
            connection.transport.close()

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close idle connections; the others close after their answers."""
        while self._idle:
            self._idle.pop().transport.close()


class Ticket:
    """A running request."""

    __slots__ = ("cancelled", "connection")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Cancel the request. The connection is closed, since the rest of the answer would still arrive on it."""
        self.cancelled = True
        if self.connection is not None:
            self.connection.abort()
