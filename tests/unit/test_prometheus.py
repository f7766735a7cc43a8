"""Prometheus as a component, and its configuration, which its own programs accept."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.base import SCRAPER, selector
from components.config.parse import ConfigError, parse
from components.observability import alerts, scraping
from components.services.registry import SERVICES
from local.toolchain import promtool
from policies.access import render
from policies.access.network import Address, Pod, Policies
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, stack_file

pytestmark = pytest.mark.xdist_group("promtool")


def with_prometheus(**section: object) -> list[pulumi.runtime.MockResourceArgs]:
    return registered_of(stack_file("local") | {"observability": {"prometheus": section}})


def named(resources: list[pulumi.runtime.MockResourceArgs], kind: str, name: str = "local-prometheus") -> Any:
    (found,) = [plain(r.inputs) for r in resources if r.typ.endswith(f":{kind}") and r.name == name]
    return found


def files(resources: list[pulumi.runtime.MockResourceArgs]) -> dict[str, Any]:
    data = named(resources, "ConfigMap", "local-prometheus-files")["data"]
    return {name: json.loads(text) for name, text in data.items()}


def test_without_the_section_there_is_none() -> None:
    without = registered_of(stack_file("local") | {"observability": {}})
    assert not [r.name for r in without if "prometheus" in r.name]


def test_it_runs_where_the_policies_of_all_parts_expect_the_collector() -> None:
    server = named(with_prometheus(), "StatefulSet")
    pod = server["spec"]["template"]
    assert (server["metadata"]["namespace"], pod["spec"]["serviceAccountName"]) == SCRAPER
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == SCRAPER[1]


def test_nothing_may_connect_to_it() -> None:
    policies = Policies(render.read(with_prometheus()))
    target = Pod(SCRAPER[0], {**selector(SCRAPER[1])})
    callers = [
        *(Pod(space, {**selector(name)}) for space in ("cogniforge", "elsewhere") for name in ("router", SCRAPER[1])),
        Pod(SCRAPER[0], {}),
        Address("198.51.100.7"),
    ]
    ports = {scraping.PORT: "http", scraping.ALERTS_PORT: "alerts"}
    assert [policies.enters(one, target, port, name) for one in callers for port, name in ports.items()] == [None] * 12
    assert policies.enters(Pod(SCRAPER[0], {**selector(SCRAPER[1])}), target, scraping.ALERTS_PORT, "alerts")


def test_the_service_that_shows_telemetry_reads_its_rules_and_silences_none() -> None:
    (name,) = [record.name for record in SERVICES.values() if record.shows_telemetry]
    content = stack_file("local") | {"observability": {"prometheus": {}}}
    content["services"] = {**content["services"], name: {}}
    policies = Policies(render.read(registered_of(content)))
    target, reader = Pod(SCRAPER[0], {**selector(SCRAPER[1])}), Pod("cogniforge", {**selector(name)})
    assert policies.leaves(reader, target, scraping.PORT, "http")
    assert policies.enters(reader, target, scraping.PORT, "http")
    assert not policies.enters(reader, target, scraping.ALERTS_PORT, "alerts")
    assert not policies.enters(Pod("elsewhere", reader.labels), target, scraping.PORT, "http")
    assert not policies.enters(Pod("cogniforge", {**selector("router")}), target, scraping.PORT, "http")


def test_its_account_may_find_pods_of_the_platform_and_read_no_secret() -> None:
    resources = with_prometheus()
    rules = [rule for kind, name in (("Role", "pods"), ("ClusterRole", "nodes"))
             for rule in named(resources, kind, f"local-prometheus-{name}")["rules"]]  # fmt: skip
    assert sorted(r for rule in rules for r in rule["resources"]) == ["nodes", "nodes/metrics", "pods"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert named(resources, "Role", "local-prometheus-pods")["metadata"]["namespace"] == "cogniforge"


def test_blocks_and_log_fit_the_volume() -> None:
    server = named(with_prometheus(storage="10Gi"), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    assert f"--storage.tsdb.retention.size={10 * 2**30 * 4 // 5}B" in server["args"]


def _silent(base: str) -> set[str]:
    """Alerts that fire where nothing is scraped, in an environment with Prometheus."""
    resources = registered_of(stack_file(base) | {"observability": {"prometheus": {}}})
    data = named(resources, "ConfigMap", f"{base}-prometheus-files")["data"]
    rules = [rule for group in json.loads(data["rules.yml"])["groups"] for rule in group["rules"]]
    return {rule["expr"] for rule in rules if rule.get("alert", "").endswith("NotScraped")}


def test_every_pod_with_metrics_has_an_alert_that_none_are_read() -> None:
    resources = registered_of(stack_file("local") | {"observability": {"prometheus": {}}})
    found = [plain(r.inputs) for r in resources if r.typ.endswith((":StatefulSet", ":Deployment"))]
    templates = [one["spec"]["template"]["metadata"] for one in found]
    names = {t["labels"]["app.kubernetes.io/name"] for t in templates if "prometheus.io/port" in t["annotations"]}
    # UpstreamErrorRateHigh watches models, and SecretStoreDown the store.
    scraped = {name for name in names if not name.startswith("model-") and name != "secret-store"}
    assert _silent("local") == {f'absent(up{{job="{name}"}} == 1)' for name in scraped}


def test_a_managed_service_has_no_alert_on_a_server_of_ours() -> None:
    silent = _silent("prod")
    assert not [name for name in ("postgres", "kafka", "object-store", "gateway") if any(name in e for e in silent)]
    assert any("nats" in expression for expression in silent)


def test_a_login_that_is_not_renewed_raises_an_alert_and_a_service_without_one_does_not(tmp_path: Path) -> None:
    every = alerts.runbooks("cogniforge", SERVICES.values())
    rule = every["IssuedLoginNotRenewed"]
    texts = {
        k: v.replace("{{ $labels.job }}", "user").replace("{{ $labels.system }}", "postgres")
        for k, v in rule["annotations"].items()
    }
    ends = 'issued_login_expires_timestamp_seconds{job="user",pod="user-1",system="postgres"}'
    none = 'issued_login_expires_timestamp_seconds{job="prompt",pod="prompt-1",system="cache"}'
    raised = {"exp_labels": {"job": "user", "system": "postgres", "severity": "page"}, "exp_annotations": texts}
    # It ends an hour after minute 0, and is renewed after 35 minutes.
    series = {ends: "3600x34 7200x30", none: "0x70"}
    _verify(tmp_path, rule, series, {"20m": [], "33m": [raised], "37m": []})


def test_the_end_of_the_meshs_authority_is_noticed_thirty_days_before(tmp_path: Path) -> None:
    rule = alerts.runbooks("cogniforge", SERVICES.values())["MeshAuthorityExpires"]
    raised = {"exp_labels": {"severity": "page"}, "exp_annotations": rule["annotations"]}
    ends = str(31 * 86_400)  # 31 days after the first moment
    series = {'citadel_server_root_cert_expiry_timestamp{job="istiod"}': f"{ends}x4000"}
    _verify(tmp_path, rule, series, {"23h": [], "25h": [raised]})


def _verify(tmp_path: Path, rule: Any, series: dict[str, str], expected: dict[str, list[dict[str, Any]]]) -> None:
    """Promtool evaluates a rule over series with a value each minute: the alerts at each moment are those expected."""
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "one", "rules": [rule]}]}))
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    checks = [{"eval_time": at, "alertname": rule["alert"], "exp_alerts": found} for at, found in expected.items()]
    tests = [{"interval": "1m", "input_series": inputs, "alert_rule_test": checks}]
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(json.dumps(content))
    command = [str(promtool.resolve()), "test", "rules", "tests.yml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    content = files(with_prometheus())
    (tmp_path / "rules.yml").write_text(json.dumps(content["rules.yml"]))
    for job in content["prometheus.yml"]["scrape_configs"]:  # Debian's promtool cannot discover pods
        if job.pop("kubernetes_sd_configs", None):
            job["static_configs"] = [{"targets": ["127.0.0.1:1"]}]
        job.pop("authorization", None)
        job.pop("tls_config", None)
    content["prometheus.yml"]["rule_files"] = [str(tmp_path / "rules.yml")]
    (tmp_path / "prometheus.yml").write_text(json.dumps(content["prometheus.yml"]))
    command = [str(promtool.resolve()), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "rules found" in done.stdout, done.stdout + done.stderr


def test_alerts_go_to_the_webhook_and_nowhere_without_one() -> None:
    assert files(with_prometheus())["alertmanager.yml"]["receivers"] == [{"name": "all"}]
    (receiver,) = files(with_prometheus(webhook="https://pager.example.com/x"))["alertmanager.yml"]["receivers"]
    assert [hook["url"] for hook in receiver["webhook_configs"]] == ["https://pager.example.com/x"]


@pytest.mark.parametrize(
    ("webhook", "port"),
    [("http://pager.example.com/x", 80), ("http://pager.example.com:9999/x", 9999), ("https://pager.example.com", 443)],
)
def test_it_may_connect_to_the_port_of_the_webhook(webhook: str, port: int) -> None:
    egress = named(with_prometheus(webhook=webhook), "NetworkPolicy", "local-prometheus-egress")["spec"]["egress"]
    assert port in [one["port"] for one in egress[1]["ports"]]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"prometheus": {}, "prometheusOperator": True}, "both would raise each alert twice"),
        ({"prometheus": {"webhook": "https://user:secret@host/"}}, "URL without a user"),
        ({"prometheus": {"webhook": "http://host:65536/"}}, "webhook"),
        ({"otlpEndpoint": "http://collector:65536"}, "otlpEndpoint"),
        ({"otlpEndpoint": "http://user:secret@collector:4318"}, "URL without a user"),
        ({"prometheus": {"keepDays": 0}}, "keepDays"),
    ],
)
def test_mistakes_are_named(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(stack_file("local") | {"observability": section})
    assert said in str(caught.value)
