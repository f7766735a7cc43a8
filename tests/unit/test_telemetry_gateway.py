"""The OpenTelemetry gateway as a component: who sends spans, which requests are kept, and what is removed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.config.parse import ConfigError, parse
from components.config.platform import PlatformConfig
from components.config.traces import GATEWAY, OTLP_GRPC_PORT, Traces
from components.mesh import entrance
from components.mesh.gateway_inputs import intent_args
from components.mesh.routes import Spans
from components.observability import trace_pipeline
from components.observability.redaction import PATTERNS, PERSONAL
from components.observability.telemetry_gateway import destinations
from components.services.registry import SERVICES
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, stack_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "service_images" / "kit" / "src"))
from kit import genai, telemetry

LANGFUSE = {"url": "https://langfuse.example.com/api/public/otel", "secretName": "langfuse"}


def with_traces(**section: object) -> list[pulumi.runtime.MockResourceArgs]:
    return registered_of(stack_file("local") | {"observability": {"traces": section}})


def named(resources: list[pulumi.runtime.MockResourceArgs], kind: str, name: str = f"local-{GATEWAY}") -> Any:
    (found,) = [plain(r.inputs) for r in resources if r.typ.endswith(f":{kind}") and r.name == name]
    return found


def content(resources: list[pulumi.runtime.MockResourceArgs]) -> dict[str, Any]:
    return json.loads(named(resources, "ConfigMap", f"local-{GATEWAY}-files")["data"]["collector.json"])


def sampling(**section: object) -> dict[str, Any]:
    made = trace_pipeline.configuration(
        Traces.model_validate(section),
        trace_pipeline.slow_rules(SERVICES.values()),
        destinations(Traces()),
        trace_pipeline.Place(),
    )
    return made["processors"]["request_sampling"]


def test_services_send_their_spans_to_it_and_nobody_else_does() -> None:
    own, services, metrics = named(with_traces(), "NetworkPolicy")["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in own["from"]] == [GATEWAY]
    names = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in services["from"]}
    assert {"gateway", "router", "guardrails", "billing", "audit"} <= names and "jaeger" not in names
    assert services["ports"] == [{"port": "otlp"}, {"port": "otlp-grpc"}]
    assert [one["port"] for one in metrics["ports"]] == [trace_pipeline.METRICS_PORT]


@pytest.mark.parametrize(("section", "traced"), [({"traces": {}}, True), ({}, False)])
def test_the_gateway_begins_traces_where_the_platform_keeps_them_and_services_know_it(
    section: dict[str, Any], traced: bool
) -> None:
    config = parse(stack_file("local") | {"observability": {**section, "traceSampleRatio": 0.25}})
    wanted = Spans(f"{GATEWAY}.cogniforge", OTLP_GRPC_PORT, 0.25) if traced else None
    assert entrance.intent(config).spans == wanted
    resources = registered_of(stack_file("local") | {"observability": section})
    for service in ("router", "billing"):
        pod = named(resources, "Deployment", f"local-{service}")["spec"]["template"]["spec"]
        variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        assert variables.get("SERVICE_GATEWAY_TRACES") == ("true" if traced else None)


def test_kongs_gateway_begins_no_traces() -> None:
    local = stack_file("local")
    content = local | {"gateway": {**local["gateway"], "engine": "kong"}, "observability": {"traces": {}}}
    config = PlatformConfig.model_validate(content)
    assert not config.gateway_traces and entrance.intent(config).spans is None
    assert "spans" not in intent_args(entrance.intent(config))


def test_span_metrics_count_spans_before_requests_are_sampled() -> None:
    pipelines = content(with_traces())["service"]["pipelines"]
    assert pipelines["traces/in"]["exporters"] == ["forward/measured", "forward/sampled"]
    assert "request_sampling" not in pipelines["traces/in"]["processors"] + pipelines["traces/measured"]["processors"]
    assert pipelines["traces/in"]["processors"] == ["memory_limiter", "k8sattributes", "transform/redact"]
    assert pipelines["traces/sampled"]["processors"] == ["request_sampling", "batch"]


def test_a_request_is_slow_beyond_the_objective_of_its_services_record() -> None:
    rules = {rule["service"]: rule for rule in sampling()["slow"]}
    assert rules["router"] == {"service": "router", "attribute": "gen_ai.response.time_to_first_chunk", "seconds": 2.0}
    assert rules["guardrails"] == {"service": "guardrails", "having": "http.route", "seconds": 0.25}
    assert set(rules) == {
        name for name, record in SERVICES.items()
        if record.objectives.latency_seconds is not None or record.objectives.first_token_seconds is not None
    }  # fmt: skip


def test_one_of_a_hundred_ordinary_requests_is_kept_unless_configured() -> None:
    assert (sampling()["one_of"], sampling(keepOneOf=1)["one_of"]) == (100, 1)


def test_the_names_of_attributes_are_those_of_the_services() -> None:
    assert trace_pipeline.ENTRANCE == telemetry.ENTRANCE
    assert tuple(genai.GUARDED.values()) == trace_pipeline.GUARDED
    assert (trace_pipeline.OPERATION, trace_pipeline.MODEL) == (genai.OPERATION_NAME, genai.REQUEST_MODEL)
    assert trace_pipeline.FIRST_CHUNK == genai.RESPONSE_TIME_TO_FIRST_CHUNK
    assert trace_pipeline.VERDICT == genai.EVALUATION_SCORE_LABEL


def test_the_login_at_langfuse_is_a_file_from_a_secret() -> None:
    resources = with_traces(langfuse=LANGFUSE)
    exporters = content(resources)["exporters"]
    assert exporters["otlphttp/langfuse"]["traces_endpoint"] == f"{LANGFUSE['url']}/v1/traces"
    assert exporters["otlphttp/langfuse"]["headers"] == {
        "Authorization": "${file:/var/run/secrets/service/authorization}"
    }
    pod = named(resources, "StatefulSet")["spec"]["template"]["spec"]
    secrets = [source["secret"]["name"] for volume in pod["volumes"] if "projected" in volume
               for source in volume["projected"]["sources"] if "secret" in source]  # fmt: skip
    assert secrets == ["langfuse"]


def test_each_receiver_has_a_queue_on_the_volume_that_never_blocks() -> None:
    resources = with_traces(queue="4Gi", langfuse=LANGFUSE)
    found = content(resources)
    queues = [one["sending_queue"] for name, one in found["exporters"].items() if name.startswith("otlphttp/")]
    assert [(one["storage"], one["block_on_overflow"], one["queue_size"]) for one in queues] == [
        ("file_storage", False, 2**29)
    ] * 2
    assert found["extensions"]["file_storage"]["directory"].startswith("/data/")
    (claim,) = named(resources, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "4Gi"


REMOVED = [
    "user.email", "enduser.id", "client.address", "gen_ai.input.messages", "gen_ai.prompt.0.content", "input.value",
    "llm.input_messages.0.message.content", "http.request.header.authorization", "db.password", "api_key", "API-Key",
]  # fmt: skip
STAY = [
    "gen_ai.prompt.name", "gen_ai.usage.input_tokens", "gen_ai.response.time_to_first_chunk", "http.route",
    "llm.token_count.prompt", "llm.model_name", "user_agent.original", "cogniforge.entrance", "server.address",
]  # fmt: skip


@pytest.mark.parametrize(("name", "gone"), [*((n, True) for n in REMOVED), *((n, False) for n in STAY)])
def test_attributes_with_texts_people_and_secrets_are_removed(name: str, gone: bool) -> None:
    (statement,) = [
        one for group in content_of_redaction() if group["context"] == "span"
        for one in group["statements"] if one.startswith("delete_matching_keys")
    ]  # fmt: skip
    expression = json.loads(statement.split(", ", 1)[1].removesuffix(")").replace("$$", "$"))
    assert bool(re.search(expression, name)) is gone


def content_of_redaction() -> list[dict[str, Any]]:
    made = trace_pipeline.configuration(Traces(), [], destinations(Traces()), trace_pipeline.Place())
    return made["processors"]["transform/redact"]["trace_statements"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("from Ada.Lovelace+x@mail.example.com to all", "from [redacted] to all"),
        ("call +44 20 7946 0958 now", "call [redacted] now"),
        ("card 4111 1111 1111 1111", "card [redacted]"),
        ("to DE89 3704 0044 0532 0130 00", "to [redacted]"),
        ("number 078-05-1120", "number [redacted]"),
        ("key sk-abcdefghijklmnop1234", "key [redacted]"),
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("2026-11-27T20:00:00.000000+00:00", "2026-11-27T20:00:00.000000+00:00"),
        ("1764273600000000000 ns, 12 tokens", "1764273600000000000 ns, 12 tokens"),
        ("all-minilm-l6-v2@sha256 POST /v1/chat/completions", "all-minilm-l6-v2@sha256 POST /v1/chat/completions"),
    ],
)
def test_personal_data_and_keys_are_removed_from_texts(text: str, left: str) -> None:
    for pattern, replacement in (*PATTERNS, *PERSONAL):
        text = re.sub(pattern, re.sub(r"\$\{(\d)\}", r"\\\1", replacement), text)
    assert text == left


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"keepOneOf": 0}, "observability.traces.keepOneOf"),
        ({"queue": "1Mi"}, "observability.traces.queue"),
        ({"langfuse": {**LANGFUSE, "url": "https://me:pass@langfuse.example.com"}}, "without a user"),
        ({"langfuse": {**LANGFUSE, "url": "https://langfuse.example.com/otel/"}}, "a slash at its end"),
        ({"langfuse": {"url": LANGFUSE["url"]}}, "observability.traces.langfuse.secretName"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(stack_file("local") | {"observability": {"traces": section}})
