"""Span of one attempt at a target, for requests that are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit import genai
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from router.tried import REASON_CHARACTERS, Outcome

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from router.request import Request
    from router.targets import TargetState

_FAILED = frozenset((Outcome.FAILED, Outcome.INTERRUPTED, Outcome.TIMED_OUT))
_HTTP = "HTTP "
"""Beginning of the reason if a status has made the attempt fail."""


class ModelCall:
    """A running span. Its name is that of the operation and the route's model, as the conventions say."""

    def __init__(self, tracer: Tracer, exchange: Request, state: TargetState, model: str) -> None:
        url = state.target.upstream
        known: dict[str, Any] = {
            **genai.named(exchange.operation, model, _provider(state)),
            genai.TARGET: state.label,
            genai.ATTEMPT: exchange.attempts,
            "server.address": url.host,
            "server.port": url.port,
        }
        self._span = tracer.start_span(
            f"{exchange.operation} {model}",
            context=trace.set_span_in_context(exchange.span),
            kind=SpanKind.CLIENT,
            attributes=known,
        )
        own = self._span.get_span_context()
        self.traceparent = b"00-%032x-%016x-%02x" % (own.trace_id, own.span_id, own.trace_flags)
        """For the model server, if it is the platform's."""

    def hedged(self) -> None:
        """The attempt was begun while another one was running."""
        self._span.set_attribute(genai.HEDGE, True)

    def answers(self, status: int) -> None:
        """The head of the answer has arrived."""
        self._span.set_attribute("http.response.status_code", status)

    def first_piece(self, seconds: float) -> None:
        """Record the first piece of a stream, `seconds` after the beginning of the attempt."""
        self._span.set_attribute(genai.RESPONSE_TIME_TO_FIRST_CHUNK, seconds)
        self._span.add_event(genai.FIRST_TOKEN)

    def end(self, outcome: Outcome, reason: str = "", used: tuple[int, int] | None = None) -> None:
        """The attempt has ended. `used`: (input, output) tokens of the request, if this attempt has answered it."""
        span = self._span
        span.set_attribute(genai.OUTCOME, outcome.value)
        if used is not None:
            genai.used(span, *used)
        if outcome in _FAILED:
            status = reason[len(_HTTP) :] if reason.startswith(_HTTP) else ""
            span.set_attribute("error.type", status or outcome.value)
            span.set_status(Status(StatusCode.ERROR, reason[:REASON_CHARACTERS]))
        span.end()


def _provider(state: TargetState) -> str:
    """Provider in the conventions' names, by the API for external models."""
    if state.messages:
        return "anthropic"
    return "openai" if state.outside else genai.PROVIDER
