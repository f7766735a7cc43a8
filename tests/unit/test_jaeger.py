"""Jaeger as a component: who may send spans, who may query, and what is kept."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from components.config.parse import ConfigError, parse
from components.config.traces import Traces
from components.observability import jaeger
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, stack_file


def with_jaeger(**section: object) -> list[pulumi.runtime.MockResourceArgs]:
    return registered_of(stack_file("local") | {"observability": {"traces": section}})


def named(resources: list[pulumi.runtime.MockResourceArgs], kind: str, name: str = "local-jaeger") -> Any:
    (found,) = [plain(r.inputs) for r in resources if r.typ.endswith(f":{kind}") and r.name == name]
    return found


def test_without_the_section_there_is_none_and_no_spans_are_sent() -> None:
    resources = registered_of(stack_file("local") | {"observability": {}})
    assert not [r.name for r in resources if "jaeger" in r.name or "telemetry" in r.name]
    assert endpoints(resources) == {""}


def endpoints(resources: list[pulumi.runtime.MockResourceArgs]) -> set[str]:
    """OTLP endpoints of all services."""
    pods = [plain(r.inputs)["spec"]["template"]["spec"] for r in resources if r.typ.endswith(":Deployment")]
    return {
        variable.get("value", "")
        for pod in pods
        for container in pod["containers"]
        for variable in container.get("env", ())
        if variable["name"] == "SERVICE_OTLP_ENDPOINT"
    }


def test_the_gateway_of_spans_sends_them_to_it_and_nobody_else_may_connect() -> None:
    local = stack_file("local")
    services = {name: section for name, section in local["services"].items() if name != "portal"}  # it queries spans
    resources = registered_of(local | {"observability": {"traces": {}}, "services": services})
    assert endpoints(resources) == {f"http://telemetry-gateway:{jaeger.OTLP_PORT}"}
    own, gateway, metrics = named(resources, "NetworkPolicy")["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in own["from"]] == ["jaeger"]
    names = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in gateway["from"]}
    assert names == {"telemetry-gateway"}
    assert gateway["ports"] == [{"port": "otlp"}]
    assert [one["port"] for one in metrics["ports"]] == [jaeger.METRICS_PORT]


def test_spans_are_kept_on_the_volume_for_the_configured_days() -> None:
    resources = with_jaeger(keepDays=7, storage="9Gi")
    server = named(resources, "StatefulSet")["spec"]
    (claim,) = server["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "9Gi"
    content = json.loads(named(resources, "ConfigMap", "local-jaeger-files")["data"]["jaeger.json"])
    (store,) = content["extensions"]["jaeger_storage"]["backends"].values()
    assert store["badger"]["ttl"] == {"spans": "168h"} and store["badger"]["ephemeral"] is False
    assert store["badger"]["directories"]["keys"].startswith("/data/")
    assert server["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(jaeger.METRICS_PORT)


def test_spans_are_refused_before_the_memory_is_used_up() -> None:
    content = jaeger.configuration(Traces.model_validate({"resources": {"cpu": "50m", "memory": "1Gi"}}))
    assert content["processors"]["memory_limiter"]["limit_mib"] == 1024 * jaeger.MEMORY_SHARE // 100
    assert content["service"]["pipelines"]["traces"]["processors"][0] == "memory_limiter"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"traces": {"keepDays": 0}}, "observability.traces.keepDays"),
        ({"traces": {}, "otlpEndpoint": "http://collector.observability:4318"}, "traces or otlpEndpoint"),
    ],
)
def test_a_wrong_section_is_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(stack_file("local") | {"observability": section})
