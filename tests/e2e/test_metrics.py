"""The data layer's servers export all metrics that alerts and dashboards query."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from kubernetes import client

from components.observability import alerts, alerts_data, boards_data
from components.observability.alert import metrics
from components.services.registry import FRONT, SERVICES
from tests.e2e.conftest import forge
from tests.known_metrics import FOREIGN

pytestmark = pytest.mark.e2e
ASKED: dict[str, set[str]] = {}
for _alert in alerts_data.ALERTS:
    ASKED.setdefault(_alert.part, set()).update(metrics(_alert.expression))
for _board in boards_data.BOARDS:
    ASKED.setdefault(_board.name, set()).update(_board.metrics - FOREIGN)


@pytest.mark.parametrize("part", sorted(ASKED))
def test_a_server_exports_every_metric_that_is_queried(api: client.ApiClient, part: str) -> None:
    pod = client.CoreV1Api(api).read_namespaced_pod(f"{part}-0", "cogniforge")
    port, address = pod.metadata.annotations["prometheus.io/port"], pod.status.pod_ip
    if part == "object-store":  # failure counters appear with the first failure
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"http://{address}:7070/no-such-bucket/x", trust_env=False)
    text = httpx.get(f"http://{address}:{port}/metrics", trust_env=False, timeout=30).text
    given = set(re.findall(r"^([a-zA-Z_][a-zA-Z0-9_]*)[ {]", text, re.MULTILINE))
    assert ASKED[part] - given == set()


def test_the_checks_of_runbooks_run(api: client.ApiClient) -> None:
    core, batch = client.CoreV1Api(api), client.BatchV1Api(api)
    parts = [part["name"] for part in json.loads(forge("status", "-o", "json").stdout)["parts"]]
    labels = {
        "job": FRONT.name,
        "pod": core.list_namespaced_pod("cogniforge").items[0].metadata.name,
        "persistentvolumeclaim": core.list_namespaced_persistent_volume_claim("cogniforge").items[0].metadata.name,
        "job_name": batch.list_namespaced_job("cogniforge").items[0].metadata.name,
    }
    rules = alerts.rules("cogniforge", frozenset((*parts, "data")), SERVICES.values())
    written = [rule["annotations"]["checks"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    known = re.compile(r"{{ \$labels\.(\w+) }}")
    checks = dict.fromkeys(known.sub(lambda m: labels[m[1]], check) for text in written for check in text.splitlines())
    # An own environment's drift and status are tests of their own; here, it is enough that they are commands.
    ran = [check for check in checks if check not in ("forge drift", "forge status")]
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda check: forge(*shlex.split(check.removeprefix("forge ")), check=False), ran)
        # `forge dead-letters list` ends with 2 if there are letters.
        good = {"forge dead-letters list": (0, 2)}
        failed = {c: one.stderr for c, one in zip(ran, done, strict=True) if one.returncode not in good.get(c, (0,))}
    assert failed == {}
    assert len(ran) > 20


def test_the_caches_exporter_takes_no_target_of_a_query(api: client.ApiClient) -> None:
    pod = client.CoreV1Api(api).read_namespaced_pod("cache-0", "cogniforge")
    base = f"http://{pod.status.pod_ip}:{pod.metadata.annotations['prometheus.io/port']}"
    query = {"target": "redis://127.0.0.1:6379"}
    assert httpx.get(f"{base}/scrape", params=query, trust_env=False, timeout=30).status_code == 404
