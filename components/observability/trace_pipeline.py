"""Configuration of the OpenTelemetry gateway: what it does to spans, which requests it keeps, and where it sends them.

Span metrics count all spans. After that, requests are sampled: a request is decided about once its entrance span has
ended and other services had time to send theirs, so a stream is judged as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.config.base import quantity
from components.config.traces import GATEWAY, OTLP_GRPC_PORT, OTLP_PORT, Traces
from components.data.server import DATA_MOUNT
from components.observability import collector_queue, gateway_spans
from components.observability.redaction import NAMES, PATTERNS, PERSONAL
from components.services.record import ServiceRecord

HEALTH_PORT, METRICS_PORT = 13133, 8888
_OWN_PORT = 4319
"""Receives the gateway's own metrics on loopback, so that one port exports all."""

SETTLE_S = 6
"""From a request's entrance span to the decision. SDKs send spans within 5 s after their end."""
LONGEST_S = 900
"""From a request's first span to the decision if its entrance span never comes. Longer streams are decided early."""
REMEMBERED_S = 60
"""Later spans of a kept trace are kept for this time."""
SPAN_BYTES = 2048
"""Memory for a span of a request that is not decided yet."""
MOST_SERIES = 1000
"""Series of span metrics for each service. Spans beyond it are counted as one series, otel_metric_overflow="true"."""
MOST_SERVICES = 200
NAME_LENGTH = 120
"""Characters of a span's name in span metrics."""
_EXPORT_S = 5
_BATCH_SPANS = 512

ENTRANCE = "cogniforge.entrance"
"""Attribute of the first span of a client's request, which may have a parent outside. As in kit/telemetry.py."""
OPERATION, MODEL = "gen_ai.operation.name", "gen_ai.request.model"
FIRST_CHUNK, VERDICT = "gen_ai.response.time_to_first_chunk", "gen_ai.evaluation.score.label"
"""Names of the conventions for generative AI. As in kit/genai.py."""
GUARDED = ("cogniforge.guard.input", "cogniforge.guard.output")
"""Attributes of the Router's spans with Guardrails' strictest verdict. As in kit/genai.py."""
_HTTP_ROUTE = "http.route"
_POD_SERVICE = "cogniforge.pod.service"

TEXTS = (
    r"^gen_ai\.(input|output)\.messages$",
    r"^gen_ai\.(prompt|completion|system_instructions)(\.\d.*)?$",
    r"^gen_ai\.tool\.call\.(arguments|result)$",
    r"^(input|output)\.value$",
    r"^llm\.(input_messages|output_messages|prompts)(\.|$)",
    r"^retrieval\.documents(\.|$)",
    r"^embedding\.[a-z]+s(\.|$)",
)
"""Attributes with texts of requests and answers, of OpenTelemetry and OpenInference, which own services may set."""
PEOPLE = (
    r"^(user|enduser)\.",
    r"^client\.(address|socket\.address)$",
    r"^http\.client_ip$",
    r"^net\.(sock\.)?peer\.ip$",
)
"""Attributes that identify a person."""
_SECRETS = rf"^(?i:(.*[._-])?({NAMES}))$"
_REMOVED = "|".join((*TEXTS, *PEOPLE, _SECRETS))
_BUCKETS = ("5ms", "10ms", "25ms", "50ms", "100ms", "250ms", "500ms", "1s", "2s", "5s", "10s", "30s", "60s", "120s")


@dataclass(frozen=True)
class Destination:
    """A server that receives spans by OTLP over HTTP."""

    name: str
    url: str
    """URL of its OTLP requests for traces."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Place:
    """Where the gateway runs."""

    folder: str = DATA_MOUNT
    """Folder of the queues."""
    host: str = "0.0.0.0"
    """Address that it listens on."""
    namespace: str = ""
    """Namespace whose pods send spans; empty: no API server says which pod a span comes from."""


def slow_rules(records: Iterable[ServiceRecord]) -> list[dict[str, Any]]:
    """Which spans are slow, by the objectives in the services' records."""
    found: list[dict[str, Any]] = []
    for record in sorted(records, key=lambda record: record.name):
        aim = record.objectives
        if aim.latency_seconds is not None:
            # The objective is about HTTP requests: a gRPC stream lasts as long as the answer.
            found.append({"service": record.name, "having": _HTTP_ROUTE, "seconds": aim.latency_seconds})
        if aim.first_token_seconds is not None:
            found.append({"service": record.name, "attribute": FIRST_CHUNK, "seconds": aim.first_token_seconds})
    return found


def configuration(
    config: Traces, slow: Sequence[Mapping[str, Any]], destinations: Sequence[Destination], place: Place
) -> dict[str, Any]:
    """Content of the gateway's configuration file. `slow`: from `slow_rules`."""
    memory = int(quantity(config.gateway.memory))
    queue = int(quantity(config.queue)) // (4 * len(destinations))
    before = ["memory_limiter", *(["k8sattributes"] if place.namespace else []), "transform/redact"]
    senders = {f"otlphttp/{one.name}": _sender(one, queue) for one in destinations}
    return {
        "extensions": {
            "health_check": {"endpoint": f"{place.host}:{HEALTH_PORT}"},
            "file_storage": collector_queue.storage(f"{place.folder}/queue"),
        },
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"{place.host}:{OTLP_GRPC_PORT}"},
                    "http": {"endpoint": f"{place.host}:{OTLP_PORT}"},
                }
            },
            "otlp/own": {"protocols": {"http": {"endpoint": f"127.0.0.1:{_OWN_PORT}"}}},
        },
        "processors": {
            "memory_limiter": {
                "check_interval": "1s",
                "limit_mib": memory * 75 // 100 // 2**20,
                "spike_limit_mib": memory * 15 // 100 // 2**20,
            },
            **({"k8sattributes": _pods(place.namespace)} if place.namespace else {}),
            "transform/redact": {
                "error_mode": "silent",
                "trace_statements": [*_redacted(bool(place.namespace)), gateway_spans.statements()],
            },
            "transform/measure": {"error_mode": "silent", "trace_statements": _measured()},
            "request_sampling": {
                "entrance": ENTRANCE,
                "settle": f"{SETTLE_S}s",
                "longest": f"{LONGEST_S}s",
                "remembered": f"{REMEMBERED_S}s",
                "most_spans": memory // 4 // SPAN_BYTES,
                "one_of": config.keep_one_of,
                "marks": [
                    {"attribute": VERDICT, "value": "action_block"},
                    *({"attribute": name, "value": "block"} for name in GUARDED),
                ],
                "slow": [dict(rule) for rule in slow],
            },
            "batch": {"send_batch_size": _BATCH_SPANS, "send_batch_max_size": _BATCH_SPANS, "timeout": "200ms"},
        },
        "connectors": {"forward/measured": {}, "forward/sampled": {}, "spanmetrics": _metrics()},
        "exporters": {**senders, "metrics_page": {"endpoint": f"{place.host}:{METRICS_PORT}"}},
        "service": {
            "extensions": ["health_check", "file_storage"],
            "telemetry": {"resource": {"service.name": GATEWAY}, "logs": {"encoding": "json"}, "metrics": _own()},
            "pipelines": {
                "traces/in": {
                    "receivers": ["otlp"],
                    "processors": before,
                    "exporters": ["forward/measured", "forward/sampled"],
                },
                "traces/measured": {
                    "receivers": ["forward/measured"],
                    "processors": ["transform/measure"],
                    "exporters": ["spanmetrics"],
                },
                "traces/sampled": {
                    "receivers": ["forward/sampled"],
                    "processors": ["request_sampling", "batch"],
                    "exporters": [*senders],
                },
                "metrics": {"receivers": ["spanmetrics", "otlp/own"], "exporters": ["metrics_page"]},
            },
        },
    }


def _own() -> dict[str, Any]:
    exporter = {"otlp": {"protocol": "http/protobuf", "endpoint": f"http://127.0.0.1:{_OWN_PORT}"}}
    return {"readers": [{"periodic": {"interval": 1000 * _EXPORT_S, "exporter": exporter}}]}


def _pods(namespace: str) -> dict[str, Any]:
    """The sender's pod, by the address of its connection, and the service that the pod belongs to."""
    return {
        "auth_type": "serviceAccount",
        "filter": {"namespace": namespace},
        "wait_for_metadata": True,
        "wait_for_metadata_timeout": "30s",
        "extract": {
            "metadata": ["k8s.pod.name", "k8s.node.name"],
            "labels": [{"tag_name": _POD_SERVICE, "key": "app.kubernetes.io/name", "from": "pod"}],
        },
        "pod_association": [{"sources": [{"from": "connection"}]}],
    }


def _literal(text: str) -> str:
    """A text in OTTL. The collector reads `$$` in its configuration as `$`."""
    return json.dumps(text, ensure_ascii=False).replace("$", "$$")


def _redacted(pods: bool) -> Iterator[dict[str, Any]]:
    """Statements that remove keys, personal data and texts, and that name the service by its pod."""
    patterns = (*PATTERNS, *PERSONAL)
    named = [
        f'set(resource.attributes["service.name"], resource.attributes["{_POD_SERVICE}"]) '
        f'where resource.attributes["{_POD_SERVICE}"] != nil',
        f'delete_key(resource.attributes, "{_POD_SERVICE}")',
    ]
    for context, texts in (
        ("resource", ()),
        ("span", ("span.name", "span.status.message")),
        ("spanevent", ("spanevent.name",)),
    ):
        attributes = f"{context}.attributes"
        yield {
            "context": context,
            "statements": [
                *(named if pods and context == "resource" else []),
                f"delete_matching_keys({attributes}, {_literal(_REMOVED)})",
                *(
                    f'replace_all_patterns({attributes}, "value", {_literal(pattern)}, {_literal(replacement)})'
                    for pattern, replacement in patterns
                ),
                *(
                    f"replace_pattern({text}, {_literal(pattern)}, {_literal(replacement)})"
                    for text in texts
                    for pattern, replacement in patterns
                ),
            ],
        }


def _measured() -> list[dict[str, Any]]:
    """Statements that keep names short and few in span metrics.

    A span of generative AI is named after its operation and its model or prompt, which clients choose. Only the
    Router's models are a dimension: it answers for the models of its routes alone.
    """
    inner = "span.kind != SPAN_KIND_SERVER"
    operation = f'span.attributes["{OPERATION}"]'
    return [
        {"context": "resource", "statements": ['keep_keys(resource.attributes, ["service.name"])']},
        {
            "context": "span",
            "statements": [
                f"set(span.name, {operation}) where {inner} and {operation} != nil",
                f'delete_key(span.attributes, "{MODEL}") where {inner}',
                f"set(span.name, Substring(span.name, 0, {NAME_LENGTH})) where Len(span.name) > {NAME_LENGTH}",
            ],
        },
    ]


def _metrics() -> dict[str, Any]:
    return {
        "namespace": "span",
        "histogram": {"unit": "s", "explicit": {"buckets": list(_BUCKETS)}},
        "dimensions": [{"name": MODEL}],
        "aggregation_cardinality_limit": MOST_SERIES,
        "resource_metrics_cache_size": MOST_SERVICES,
        "resource_metrics_key_attributes": ["service.name"],
        "add_resource_attributes": True,
        "metrics_flush_interval": f"{_EXPORT_S}s",
    }


def _sender(destination: Destination, queue: int) -> dict[str, Any]:
    """A server that is away fills its own queue. If the queue is full, new spans are dropped, and nobody waits."""
    return {
        "traces_endpoint": destination.url,
        **collector_queue.sending(destination.headers, queue, waits=False),
    }
