"""The fast path of the server: requests for models are handled here, all others by the application."""

from __future__ import annotations

from typing import Any

import httptools
import msgspec
from kit.errors import ApiError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router import payload
from router.core import Core
from router.exchange import Exchange

_MORE = frozenset((b"transfer-encoding", b"expect", b"upgrade"))
"""Headers with which the head means more than the length of the body."""


class Front(HttpToolsProtocol):
    """uvicorn's protocol with a faster path for POST requests to models.

    It builds on uvicorn's private `HttpToolsProtocol` (its version is locked, tests cover it): an `Exchange` replaces a
    request cycle, so that pipelining, keep-alive and shutdown remain uvicorn's.
    """

    core: Core
    """Set by `of`."""
    _message = b""
    """The data received last, if a request begins with it."""
    _between = True
    """Whether the parser waits for a request to begin."""

    @classmethod
    def of(cls, core: Core) -> type[Front]:
        """A protocol class for one Router."""
        return type("RouterFront", (cls,), {"core": core})

    # --- httptools' callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A new request. No object is created before its path is known."""
        self._between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose between the fast path and the application."""
        parser = self.parser
        if self.url in payload.PATHS and parser.get_method() == b"POST" and not parser.should_upgrade():
            version = parser.get_http_version()
            headers = dict(self.headers)
            exchange = Exchange(self, self.core, self.url, headers)
            if self._message and version == "1.1" and parser.should_keep_alive():
                self._remember(headers)
            if version == "1.0":
                exchange.chunked = exchange.keep_alive = False
            elif not parser.should_keep_alive():
                exchange.keep_alive = False
            before, self.cycle = self.cycle, exchange
            if before is None or before.response_complete:
                exchange.start()
            else:
                self.flow.pause_reading()
                self.pipeline.appendleft((exchange, self.app))
            if self.expect_100_continue and not exchange.response_complete:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        try:
            super().on_headers_complete()
        except httptools.HttpParserInvalidURLError:
            # uvicorn handles this one as an unexpected error.
            self.cycle = _Refused()
            self.send_400_response("Invalid HTTP request received.")

    def send_400_response(self, msg: str) -> None:
        """Refuse invalid or unsupported HTTP with the usual error envelope."""
        error = ApiError(400, msg.rstrip("."), code="invalid_request")
        body = msgspec.json.encode(error.envelope())
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"x-request-id: %s\r\nconnection: close\r\n\r\n%s" % (len(body), self.core.request_id(), body)
        )
        self.transport.close()

    def _remember(self, headers: dict[bytes, bytes]) -> None:
        """Remember the head of this request, which may occur again."""
        if len(headers) == len(self.headers) and _MORE.isdisjoint(headers):
            self.core.heads.keep(self._message, headers.get(b"content-length", b""), (self.url, headers))

    def _again(self, data: bytes) -> bool:
        """Process a complete request with a known head. Returns False if it must be parsed."""
        found = self.core.heads.read(data)
        if found is None:
            return False
        (url, headers), own, body = found
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self.cycle = exchange = Exchange(self, self.core, url, headers | own if own else headers)
        exchange.whole(body)
        return True

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body."""
        if isinstance(self.cycle, Exchange):
            self.cycle.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End of a request."""
        self._between = True
        if not isinstance(self.cycle, Exchange):
            super().on_message_complete()
        elif self.cycle.response_complete:
            self.core.rest(self)  # after an early refusal, the connection is idle only now
        else:
            self.cycle.complete()

    # --- asyncio's callbacks -------------------------------------------------------------------

    def resume_writing(self) -> None:
        """The client is ready for more data."""
        super().resume_writing()
        if isinstance(self.cycle, Exchange):
            self.cycle.writable()

    # --- called by an exchange -------------------------------------------------------------------

    def finished(self, keep_alive: bool) -> None:
        """An exchange is answered. Like uvicorn's `on_response_complete`, but without a timer per answer."""
        if not keep_alive:
            self.transport.close()
        if self.pipeline or self.flow.read_paused or self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self.core.rest(self)

    def data_received(self, data: bytes) -> None:
        """The connection is not idle anymore."""
        self.core.idle.pop(self, None)
        if self._between and (self.cycle is None or self.cycle.response_complete):
            if self._again(data):
                return
            self._message = data
            super().data_received(data)
            self._message = b""
        else:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self.core.idle.pop(self, None)
        super().connection_lost(exc)


class _Refused:
    """Placeholder for a request that was refused before it was complete."""

    response_complete = True

    class _Nothing:
        def set(self) -> None:
            """No effect: the request was refused."""

    message_event = _Nothing()
