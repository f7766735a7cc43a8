"""Span of one attempt at a target, for requests that are recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit import genai
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from router.tried import REASON_CHARACTERS, Outcome

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from router.targets import TargetState

_FAILED = frozenset((Outcome.FAILED, Outcome.INTERRUPTED, Outcome.TIMED_OUT))
_HTTP = "HTTP "
"""Beginning of the reason if a status has made the attempt fail."""


class ModelCall:
    """A running span. Its name is that of the operation and the route's model, as the conventions say.

    The request's own span has the tokens and OpenInference's names, so that whoever sums spans counts each once.
    """

    def __init__(
        self, tracer: Tracer, request: Span, operation: str, attempt: int, state: TargetState, model: str
    ) -> None:
        """`request`: span of the request; `attempt`: its number, from 1; `model`: model of the attempt's route."""
        url = state.target.upstream
        self._known: dict[str, Any] = {
            genai.OPERATION_NAME: operation,
            genai.PROVIDER_NAME: _provider(state),
            genai.REQUEST_MODEL: model,
            genai.TARGET: state.label,
            genai.ATTEMPT: attempt,
            "server.address": url.host,
            "server.port": url.port,
        }
        """Attributes, which are set together at the end: each call of the SDK takes microseconds."""
        self._span = tracer.start_span(
            f"{operation} {model}", context=trace.set_span_in_context(request), kind=SpanKind.CLIENT
        )
        own = self._span.get_span_context()
        self.traceparent = b"00-%032x-%016x-%02x" % (own.trace_id, own.span_id, own.trace_flags)
        """For the model server, if it is the platform's."""

    def hedged(self) -> None:
        """The attempt was begun while another one was running."""
        self._known[genai.HEDGE] = True

    def answers(self, status: int) -> None:
        """The head of the answer has arrived."""
        self._known["http.response.status_code"] = status

    def first_piece(self, seconds: float) -> None:
        """Record the first piece of a stream, `seconds` after the beginning of the attempt."""
        self._known[genai.RESPONSE_TIME_TO_FIRST_CHUNK] = seconds
        self._span.add_event(genai.FIRST_TOKEN)

    def end(self, outcome: Outcome, reason: str = "") -> None:
        """The attempt has ended."""
        span, known = self._span, self._known
        known[genai.OUTCOME] = outcome.value
        if outcome in _FAILED:
            status = reason[len(_HTTP) :] if reason.startswith(_HTTP) else ""
            known["error.type"] = status or outcome.value
            span.set_status(Status(StatusCode.ERROR, reason[:REASON_CHARACTERS]))
        span.set_attributes(known)
        span.end()


def _provider(state: TargetState) -> str:
    """Provider in the conventions' names, by the API for external models."""
    if state.messages:
        return "anthropic"
    return "openai" if state.outside else genai.PROVIDER
