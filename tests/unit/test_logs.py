"""Collection of log lines as components: what they render, what they refuse, and what secrets they remove."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pulumi
import pytest

from cli import log_lines
from components.base import selector
from components.config.parse import ConfigError, parse
from components.observability.log_names import COLLECTOR, COLLECTOR_NAMESPACE, NODE_FOLDER, PORT, STORE, STORE_NAMESPACE
from components.observability.log_pipeline import Destination, configuration
from components.observability.log_query import LogLine, LogQuery, Loki, VictoriaLogs, merged
from components.observability.redaction import PATTERNS
from local.errors import LocalError
from policies.access import render
from policies.access.network import Address, Pod, Policies
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, stack_file

pytestmark = pytest.mark.xdist_group("tree")
Resources = list[pulumi.runtime.MockResourceArgs]
LOKI = {"url": "https://loki.example.com:3100", "tenant": "platform", "secretName": "loki-login"}


def with_logs(**section: object) -> Resources:
    return registered_of(stack_file("local") | {"observability": {"logs": section}})


def named(resources: Resources, kind: str, name: str) -> Any:
    (found,) = [plain(r.inputs) for r in resources if r.typ.endswith(f":{kind}") and r.name == f"local-{name}"]
    return found


def pipeline(resources: Resources) -> Any:
    return json.loads(named(resources, "ConfigMap", f"{COLLECTOR}-files")["data"]["collector.json"])


def test_without_the_section_there_is_neither_store_nor_collector() -> None:
    without = registered_of(stack_file("local") | {"observability": {}})
    assert not [r.name for r in without if STORE in r.name or COLLECTOR in r.name]


def test_the_collector_mounts_one_folder_of_its_node_to_read_and_is_not_root() -> None:
    pod = named(with_logs(), "DaemonSet", COLLECTOR)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = [one for one in pod["volumes"] if "hostPath" in one]
    assert volume["hostPath"]["path"] == NODE_FOLDER
    assert [m["readOnly"] for m in container["volumeMounts"] if m["name"] == volume["name"]] == [True]
    context = container["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (65532, 0, True)
    assert context["capabilities"] == {"drop": ["ALL"]} and context["readOnlyRootFilesystem"]
    assert not context["allowPrivilegeEscalation"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


def test_only_the_collectors_namespace_has_another_level_of_pod_security() -> None:
    levels = {
        r.inputs["metadata"]["name"]: r.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for r in with_logs()
        if r.typ == "kubernetes:core/v1:Namespace"
    }
    assert {name for name, level in levels.items() if level != "restricted"} == {COLLECTOR_NAMESPACE}
    assert STORE_NAMESPACE in levels


def test_only_the_collector_connects_to_the_store_and_only_to_it() -> None:
    policies = Policies(render.read(with_logs()))
    store, collector = (Pod(STORE_NAMESPACE, selector(STORE)), Pod(COLLECTOR_NAMESPACE, selector(COLLECTOR)))
    assert policies.enters(collector, store, PORT, "http") and policies.leaves(collector, store, PORT, "http")
    strangers = [
        Pod("cogniforge", selector("router")),
        Pod("elsewhere", selector(COLLECTOR)),
        Pod(COLLECTOR_NAMESPACE, {}),
        Pod(STORE_NAMESPACE, {}),
        Address("198.51.100.7"),
    ]
    assert [policies.enters(one, store, PORT, "http") for one in strangers] == [None] * 5
    assert policies.enters(store, collector, 13133, "health") is None
    assert policies.leaves(collector, Pod("cogniforge", selector("postgres")), 5432, "postgres") is None
    assert policies.leaves(collector, Address("198.51.100.7"), PORT, "") is None


def test_the_collector_finds_pods_where_lines_are_collected_and_reads_no_secret() -> None:
    both = registered_of(stack_file("local") | {"observability": {"logs": {}, "prometheus": {}}})
    roles = [plain(r.inputs) for r in both if r.typ.endswith(":Role") and COLLECTOR in r.name]
    assert sorted(role["metadata"]["namespace"] for role in roles) == ["cogniforge", "observability"]
    assert [role["rules"] for role in roles] == [
        [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    ] * 2
    assert not [r for r in both if r.typ.endswith(":ClusterRole") and COLLECTOR in r.name]
    assert pipeline(both)["receivers"]["filelog"]["include"] == [
        f"{NODE_FOLDER}/cogniforge_*/*/*.log",
        f"{NODE_FOLDER}/observability_*/*/*.log",
    ]


def test_the_login_is_a_secret_and_no_part_of_a_file_or_an_argument() -> None:
    resources = with_logs()
    exporter = pipeline(resources)["exporters"]["otlphttp"]
    assert exporter["headers"] == {"Authorization": "${file:/var/run/secrets/service/authorization}"}
    (process,) = named(resources, "StatefulSet", STORE)["spec"]["template"]["spec"]["containers"]
    assert "-httpAuth.password=file:///var/run/secrets/service/password" in process["args"]
    for name in (f"{STORE}-login", f"{COLLECTOR}-login"):
        (secret,) = [r for r in resources if r.typ == "kubernetes:core/v1:Secret" and r.name == f"local-{name}"]
        assert "authorization" in plain(secret.inputs)["stringData"]


def test_lines_fill_four_fifths_of_the_volume() -> None:
    (process,) = named(with_logs(storage="10Gi", keepDays=7), "StatefulSet", STORE)["spec"]["template"]["spec"][
        "containers"
    ]
    assert f"-retention.maxDiskSpaceUsageBytes={10 * 2**30 * 4 // 5}" in process["args"]
    assert "-retentionPeriod=7d" in process["args"]


def test_a_loki_elsewhere_gets_the_lines_and_no_store_is_made() -> None:
    resources = with_logs(loki=LOKI)
    assert not [r.name for r in resources if r.typ.endswith((":StatefulSet", ":Secret")) and STORE in r.name]
    exporter = pipeline(resources)["exporters"]["otlphttp"]
    assert exporter["logs_endpoint"] == "https://loki.example.com:3100/otlp/v1/logs"
    assert exporter["headers"]["X-Scope-OrgID"] == "platform"
    pod = named(resources, "DaemonSet", COLLECTOR)["spec"]["template"]["spec"]
    secrets = [source["secret"]["name"] for volume in pod["volumes"] if "projected" in volume
               for source in volume["projected"]["sources"] if "secret" in source]  # fmt: skip
    assert secrets == ["loki-login"]
    policies = Policies(render.read(resources))
    collector = Pod(COLLECTOR_NAMESPACE, selector(COLLECTOR))
    assert policies.leaves(collector, Address("198.51.100.7"), 3100, "")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"storage": "1Mi"}, ("observability.logs.storage", "64Mi")),
        ({"keepDays": 0}, ("observability.logs.keepDays", "1")),
        ({"loki": {"url": "https://user:pass@loki"}}, ("observability.logs.loki.url", "without a user")),
        ({"loki": {"url": "http://loki:99999"}}, ("observability.logs.loki.url",)),
        ({"loki": {"url": "http://loki/x"}}, ("observability.logs.loki.url", "without a path")),
        ({"loki": {"url": "http://loki", "tenant": "a\nb"}}, ("observability.logs.loki.tenant",)),
        ({"loki": LOKI, "storage": "9Gi", "keepDays": 3}, ("keep_days, storage has no effect", "remove")),
    ],
)
def test_mistakes_are_named(section: dict[str, Any], said: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(stack_file("local") | {"observability": {"logs": section}})
    assert [part for part in said if part not in str(caught.value)] == []


SECRETS = {
    "Authorization: Bearer abcdefgh12345678": "Authorization: Bearer [redacted]",
    '{"authorization": "Basic bG9nczpwYXNz"}': '{"authorization": "[redacted]"}',
    '{"Password":"a\\"b","x":1}': '{"Password":"[redacted]","x":1}',
    "login with password=hunter2&user=a": "login with password=[redacted]&user=a",
    "postgresql://app:hunter2@postgres:5432/app": "postgresql://[redacted]@postgres:5432/app",
    "key cf-0123456789abcdefghij!": "key [redacted]!",
    "sk-" + "a1" * 12: "[redacted]",
    "AKIAIOSFODNN7EXAMPLE": "[redacted]",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln": "[redacted]",
    "token s.abcdefghijklmnopqrstuvwx": "token [redacted]",
    "-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----": "[redacted]",
}


@pytest.mark.parametrize("line", SECRETS)
def test_secrets_are_removed(line: str) -> None:
    assert redacted(line) == SECRETS[line]


@pytest.mark.parametrize(
    "line",
    [
        '{"message": "GET /v1/models 200", "tokens": 12, "key_id": "k-1"}',
        "connection to postgres:5432 as app",
        "https://gateway.example.com:8443/v1/models",
        "the bearer of this message",
        "tokens per second: 12",
    ],
)
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert redacted(line) == line


def redacted(line: str) -> str:
    for pattern, replacement in PATTERNS:
        line = re.sub(pattern, replacement.replace("${1}", r"\g<1>"), line)
    return line


def test_the_collector_expands_nothing_of_the_configuration_but_the_login() -> None:
    content = configuration(Destination("http://store", {"Authorization": "${file:/login}"}), ["cogniforge"])
    text = json.dumps(content).replace("${file:/login}", "")
    assert re.findall(r"(?<!\$)(?:\$\$)*\$(?!\$)", text) == []


SINCE = datetime(2026, 11, 27, 10, tzinfo=UTC)


def test_a_question_in_both_languages() -> None:
    query = LogQuery(SINCE, 10, "router", "acme", "f" * 32, 'say "é"')
    assert VictoriaLogs().query(query) == (
        '"service.name":="router" and "tenant":="acme" and "trace_id":="' + "f" * 32 + '" and '
        r'(_msg:~"say\\ \"é\"" or _msg:~"say\\ \\\\\"\\\\u00e9\\\\\"")'
    )
    assert Loki(["cogniforge", "observability"]).query(query) == (
        '{k8s_namespace_name=~"cogniforge|observability", service_name="router"} '
        r'|= "say \"é\"" or "say \\\"\\u00e9\\\"" | tenant="acme" | trace_id="' + "f" * 32 + '"'
    )
    assert VictoriaLogs().query(LogQuery(SINCE)) == "*"
    assert Loki(["a"]).query(LogQuery(SINCE)) == '{k8s_namespace_name=~"a"}'


def test_answers_of_both_stores_are_the_same_lines() -> None:
    victoria = {
        "_time": "2026-11-27T10:00:00.5Z", "_msg": "text", "service.name": "router", "level": "info",
        "k8s.namespace.name": "cogniforge", "k8s.pod.name": "router-1", "k8s.container.name": "router",
        "log.iostream": "stdout", "tenant": "acme", "trace_id": "f" * 32, "severity_text": "Unspecified",
    }  # fmt: skip
    labels = {
        "service_name": "router", "k8s_namespace_name": "cogniforge", "k8s_pod_name": "router-1", "level": "info",
        "k8s_container_name": "router", "log_iostream": "stdout", "tenant": "acme", "trace_id": "f" * 32,
    }  # fmt: skip
    nanoseconds = int(SINCE.timestamp()) * 10**9 + 5 * 10**8
    loki = {"data": {"resultType": "streams", "result": [{"stream": labels, "values": [[str(nanoseconds), "text"]]}]}}
    (one,) = VictoriaLogs().read(json.dumps(victoria) + "\n")
    assert [one] == list(Loki(["cogniforge"]).read(json.dumps(loki)))
    assert one.time == "2026-11-27T10:00:00.500000000Z"


def test_a_line_that_was_sent_twice_is_there_once_and_lines_are_in_order() -> None:
    first, second = (LogLine(f"2026-11-27T10:00:0{n}.000000000Z", "n", "p", "c", "stdout", "t", "s") for n in (1, 2))
    assert merged([second, first, second]) == [first, second]


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "0m", "5 m", "1h30m", "1w", "9999999s"])
def test_a_length_of_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LocalError) as refused:
        log_lines.duration(text)
    assert "15m" in str(refused.value.fix)
