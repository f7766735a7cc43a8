"""Spans of generative AI: the names of OpenTelemetry's conventions in one revision, with OpenInference's beside them.

The conventions are not stable, so no other module spells their names. Texts of requests and answers are not recorded.
Sources: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ and
https://arize-ai.github.io/openinference/spec/semantic_conventions.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

REVISION = "https://opentelemetry.io/schemas/1.44.0"
"""Schema of the revision that the names are from. A test compares them with the installed package of conventions."""
PROVIDER = "cogniforge"

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TOP_K = "gen_ai.request.top_k"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
"""Seconds."""
USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
PROMPT_NAME = "gen_ai.prompt.name"
DATA_SOURCE_ID = "gen_ai.data_source.id"
EMBEDDINGS_DIMENSION_COUNT = "gen_ai.embeddings.dimension.count"
EVALUATION_SCORE_LABEL = "gen_ai.evaluation.score.label"

GUARDED = {"input": "cogniforge.guard.input", "output": "cogniforge.guard.output"}
"""Attributes with Guardrails' strictest verdict by direction, for which the conventions have none."""
TARGET, ATTEMPT = "cogniforge.target", "cogniforge.attempt"
HEDGE, OUTCOME = "cogniforge.hedge", "cogniforge.outcome"
"""Attributes of a call of a model: name of the target, number of the attempt, whether another one was running when it
began, and how it ended, as in the usage event."""
FIRST_TOKEN = "cogniforge.first_token"
"""Name of the span event at the first piece of a stream, for which the conventions have none."""
_SPAN_KIND = "openinference.span.kind"
_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "chat": "LLM",
        "text_completion": "LLM",
        "embeddings": "EMBEDDING",
        "retrieval": "RETRIEVER",
        "guard": "GUARDRAIL",
        "render_prompt": "PROMPT",
    }
)
"""OpenInference's kind of span by operation."""
_INPUT_TOKENS, _OUTPUT_TOKENS = "llm.token_count.prompt", "llm.token_count.completion"


def named(operation: str, model: str = "") -> dict[str, AttributeValue]:
    """Attributes that name an operation and its model, in both conventions."""
    kind = _KINDS.get(operation, "CHAIN")
    found: dict[str, AttributeValue] = {OPERATION_NAME: operation, PROVIDER_NAME: PROVIDER, _SPAN_KIND: kind}
    if model:
        found[REQUEST_MODEL] = model
        if kind in ("LLM", "EMBEDDING"):
            found[f"{kind.lower()}.model_name"] = model
    return found


def used(span: Span, input_tokens: int, output_tokens: int | None = None) -> None:
    """Record tokens in both conventions. `output_tokens`: None for operations that have no output tokens."""
    span.set_attribute(USAGE_INPUT_TOKENS, input_tokens)
    span.set_attribute(_INPUT_TOKENS, input_tokens)
    if output_tokens is not None:
        span.set_attribute(USAGE_OUTPUT_TOKENS, output_tokens)
        span.set_attribute(_OUTPUT_TOKENS, output_tokens)


@contextmanager
def span(
    operation: str,
    target: str,
    attributes: Mapping[str, AttributeValue],
    kind: SpanKind = SpanKind.INTERNAL,
    *,
    model: str = "",
) -> Iterator[Span]:
    """A span of one operation, such as "embeddings all-minilm-l6-v2". An error is recorded."""
    tracer = trace.get_tracer("kit", schema_url=REVISION)
    known = {**attributes, **named(operation, model)}
    with tracer.start_as_current_span(f"{operation} {target}", kind=kind, attributes=known) as found:
        try:
            yield found
        except Exception as error:
            found.set_attribute("error.type", type(error).__name__)
            raise
