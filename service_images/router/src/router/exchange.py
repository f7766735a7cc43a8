"""A request on the fast path, from its first header to the last byte of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from kit.directory import unknown
from kit.errors import CLIENT_GONE, ApiError, ErrorType
from kit.limits import INFERENCE_BODY

from router import anthropic, bodies, continuation, errors, payload, settling, sse, trail, usage
from router.attempts import Attempts
from router.tried import Outcome

if TYPE_CHECKING:
    from router.answer import Connection
    from router.confirming import Confirming
    from router.core import Core

HTTP_OK = 200
DISCARDED_BYTES = 4 * INFERENCE_BODY.most
"""Bytes of a refused request's body that are still read, so that the client can receive the error before the close."""


class Exchange(Attempts):
    """A request on the fast path: admitted, sent to targets until one answers, and settled."""

    def __init__(self, front: Connection, core: Core, path: bytes, headers: dict[bytes, bytes]) -> None:
        self.front, self.core, self.path, self.upstream_path = front, core, path, path
        self.path_text = payload.TEXTS[path]
        self.headers = headers
        self.started = core.now()
        given = headers.get(b"x-request-id")
        self.request_id = given if given and payload.is_request_id(given) else core.request_id()
        self._pieces: list[bytes] = []
        self._tried = []
        self._legs = []
        core.measures.begin(self, headers.get(b"traceparent", b""))

    @property
    def operation(self) -> str:
        """Operation name of OpenTelemetry's semantic conventions."""
        return payload.OPERATIONS.get(self.path_text, "chat")

    # --- called by the server -----------------------------------------------------------------

    @property
    def message_event(self) -> Exchange:
        """uvicorn's attribute for the event that signals a lost connection."""
        return self

    def set(self) -> None:
        """The client has disconnected."""
        if self.disconnected and not self.response_complete:
            self.abandon()
            self.finish(CLIENT_GONE)

    def feed(self, data: bytes) -> None:
        """Receive a piece of the body. The body of a refused request is discarded."""
        self.size = size = self.size + len(data)
        if self.response_complete:
            if size > DISCARDED_BYTES:
                self.front.transport.close()
            return
        # A pipelined request waits for its turn before it is authenticated; until then, reading is paused.
        if size > bodies.SMALL_BYTES and self.holder is not None:
            try:
                self.reserve_body(size)
            except ApiError as error:
                self._pieces.clear()
                self.refuse(error)
                return
        self._pieces.append(data)

    def complete(self) -> None:
        """The request is received completely."""
        self.more_body = False
        if self.response_complete:
            return
        self.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._turn:
            self._begin()

    def whole(self, body: bytes) -> None:
        """Receive a complete request: head and body at once."""
        self.more_body, self._turn = False, True
        try:
            self.size = len(body)
            self.judge()
        except Exception as error:
            self.failed(error)
            return
        self.body = body
        self._begin()

    def start(self) -> None:
        """Earlier requests on this connection are answered."""
        self._turn = True
        try:
            self.judge()
        except Exception as error:
            self.failed(error)
            return
        if self.more_body:
            self.core.begin(self)  # its time limit ends a body that does not arrive
        else:
            self._begin()

    # --- admission ----------------------------------------------------------------------------

    def _begin(self) -> None:
        self.started = self.core.now()
        try:
            confirming = self.core.confirming
            if confirming is not None and self.core.accounts.from_user(self.digest) and confirming.needed(self.digest):
                self.core.begin(self)
                self.beside(self._confirmed(confirming))
                return
            self.admit()
        except Exception as error:
            self.failed(error)

    async def _confirmed(self, confirming: Confirming) -> None:
        """Continue once User has confirmed that the key is still valid."""
        holds = await confirming.confirm(payload.bearer(self.headers), self.digest, self.tenant.decode())
        if self.response_complete or self.disconnected:
            return
        if not holds:
            raise unknown()
        self.admit()

    # --- guardrails -----------------------------------------------------------------------------

    def marks(self) -> bytes:
        """Header that reports an unchecked text, if the route enables checks."""
        return b"x-guardrails: unchecked\r\n" if self.guard_unchecked else b""

    def begin_stream(self, label: bytes) -> None:
        """Write the head of a stream, and start its check by Guardrails if needed."""
        super().begin_stream(label)
        if self.guarded_action and self.stream_guard is None:
            from router.guarded_chat import GuardedChat
            from router.guarded_responses import GuardedResponses

            assert self.core.guard is not None, "it has checked the request"
            guarding = GuardedResponses if self.upstream_path == b"/v1/responses" else GuardedChat
            self.stream_guard = guarding(self.core.guard, self)

    def guarded(self, data: bytes) -> None:
        """Forward a checked piece of a stream."""
        if not self.response_complete:
            self._relay(data)

    def guarded_end(self, status: int) -> None:
        """All of a stream was checked and forwarded."""
        if not self.response_complete:
            self._end_stream(b"", status)

    def guarded_break(self, error: ApiError) -> None:
        """Interrupt a stream, because it cannot be checked."""
        self.guarded(sse.event(msgspec.json.encode(errors.envelope(error))))
        self.guarded_stop(error.status)

    def guarded_stop(self, status: int = HTTP_OK) -> None:
        """Stop the target: nothing more of its stream will be forwarded."""
        for leg in list(self._legs):
            trail.note(self, leg, self.core.now(), Outcome.STOPPED, "Guardrails")
            leg.drop()
        self.guarded_end(status)

    async def _look_at_output(self, body: bytes, rest: Callable[[bytes], None]) -> None:
        from router import guard as looking

        assert self.core.guard is not None, "it has checked the request"
        try:
            content = looking.decode(body)
        except (ValueError, RecursionError):
            message = "The model's answer is not JSON, so Guardrails cannot check it."
            raise ApiError(502, message, ErrorType.UPSTREAM, code="bad_answer") from None
        action = await self.core.guard.look(self, looking.messages.DIRECTION_OUTPUT, content)
        if action == "block":
            content = looking.filtered(content) if isinstance(content, dict) else None
        # The checked content is serialized again, since another parser may interpret duplicate keys differently.
        changed = looking.encode(content)
        if not self.response_complete and not self.disconnected:
            rest(changed)

    def on_shared(self, body: bytes | None) -> None:
        """Receive the answer to an equal request; None if that failed, so that this one calls a target itself."""
        if self.response_complete or self.disconnected:
            return
        self.cache_key = None
        if body is not None:
            self.cached_as = "shared"
            self.answer_again(body)
            return
        assert self.route is not None
        self.fallbacks = self.route.fallbacks
        self.attempt(self.core.now())

    # --- ends of a request --------------------------------------------------------------------

    def answer(self, status: int, kind: bytes, body: bytes, label: bytes) -> None:
        """Answer with a target's answer."""
        if status == HTTP_OK:
            self.reported = reported = usage.of_answer(body)
            if reported is None or reported[0] is None or reported[1] is None:
                self.unreported = body
            if self.guarded_action and self.upstream_path != payload.EMBEDDINGS:
                self.beside(self._look_at_output(body, lambda seen: self._answered(status, kind, seen, label)))
                return
        else:
            self.served_by = None  # the target has refused, so no model has worked
        self._answered(status, kind, body, label)

    def answer_whole(self, body: bytes, label: bytes) -> None:
        """Stream a whole answer, which a target has sent although a stream was requested."""
        self.reported, self.unreported = usage.of_answer(body), body
        events = continuation.as_stream(self.upstream_path, body, usage=not self.hides_usage)
        if events is None:
            message = "The model answered with a single body instead of the requested stream."
            self.refuse(ApiError(502, message, ErrorType.UPSTREAM, code="bad_answer"))
            return
        self.begin_stream(label)
        self.relay(events)
        self.end_stream()

    def _answered(self, status: int, kind: bytes, body: bytes, label: bytes) -> None:
        """Send an answer. After a check by Guardrails, the redacted answer is cached."""
        if status == HTTP_OK and self.cache_key is not None:
            self._keep(body)
        shown = self.target_shown(label)
        self._whole(status, kind, body, shown + self.marks() if self.guard_unchecked else shown)

    def answer_again(self, body: bytes) -> None:
        """Answer with the cached answer to an equal request."""
        self.cache_key = None
        if self.streams:
            self.write(HTTP_OK, b"text/event-stream", body, b"x-cache: hit\r\n")
            self.finish(HTTP_OK)
            return
        self._whole(200, b"application/json", body, b"x-cache: hit\r\n")

    def _whole(self, status: int, kind: bytes, body: bytes, extra: bytes) -> None:
        if self.dialect is not None:
            try:
                body = self._translated(status, body)
            except ApiError as error:
                self.refuse(error)
                return
        elif status != HTTP_OK:
            self.refuse(errors.refused(status, body, self.model, self.path_text))
            return
        self.write(status, kind, body, extra)
        self.finish(status)

    def _translated(self, status: int, body: bytes) -> bytes:
        if status != HTTP_OK:
            raise errors.refused(status, body, self.model, self.path_text)
        return anthropic.answer(body, self.request_id.decode())

    def envelope(self, error: ApiError) -> bytes:
        """Body of an error, in the format of the client's API."""
        if self.path == anthropic.PATH:
            return anthropic.error(error, self.request_id.decode())
        return super().envelope(error)

    def relay(self, data: bytes) -> bool:
        """Forward a piece of a stream, through Guardrails if it checks this stream."""
        if self.stream_guard is not None:
            self.stream_guard.feed(data)
            return not self.front.flow.write_paused
        return self._relay(data)

    def end_stream(self, data: bytes = b"", status: int = HTTP_OK) -> None:
        """End a stream after all of it was forwarded."""
        if self.stream_guard is not None and not self.stream_guard.ended:
            self.stream_guard.end(data, status)
        elif self.stream_guard is None:
            self._end_stream(data, status)

    def _end_stream(self, data: bytes, status: int) -> None:
        self._relay(data)
        if self.dialect is not None:
            super().relay(self.dialect.end())
        if self.chunked:
            self.front.transport.write(b"0\r\n\r\n")
        if self.recorded is not None and self.cache_key is not None and status == HTTP_OK:
            self._keep(b"".join(self.recorded))
        self.finish(status)

    def _relay(self, data: bytes) -> bool:
        """Forward in the format of the client's API."""
        if self.dialect is not None and data:
            data = self.dialect.feed(data)
        return super().relay(data)

    def finish(self, status: int) -> None:
        """The answer is written completely: settle the request."""
        if self.response_complete:
            return
        self.response_complete = True
        if self.stream_guard is not None:
            if not self.stream_guard.ended:
                self.stream_guard.cancel()
            self.stream_guard = None
        self.core.in_flight.discard(self)
        if self.reserved:
            self.core.bodies.give(self.tenant, self.reserved)
            self.reserved = 0
        self.recorded = None
        if self.more_body:
            self._pieces.clear()  # a request may be refused before its body has arrived
        if self._retry is not None:
            self._retry.cancel()
        if self.leads and self.cache_key is not None:
            self.core.cache.settle(self.cache_key, None)
        settling.settle(self, status)
        # Break reference cycles with the legs, which would wait for the garbage collector.
        self.winner, self._legs = None, []
        if not self.disconnected:
            self.front.finished(self.keep_alive)
