"""The data layer's servers export all metrics that alerts and dashboards query."""

from __future__ import annotations

import contextlib
import re

import httpx
import pytest
from kubernetes import client

from components.observability import alerts_data
from components.observability.alert import metrics

pytestmark = pytest.mark.e2e
ASKED: dict[str, set[str]] = {}
for _alert in alerts_data.ALERTS:
    ASKED.setdefault(_alert.part, set()).update(metrics(_alert.expression))
for _panel in alerts_data.PANELS:
    ASKED.setdefault(_panel.part, set()).update(metrics(_panel.query))


@pytest.mark.parametrize("part", sorted(ASKED))
def test_a_server_returns_the_requested_secrets(api: client.ApiClient, part: str) -> None:
    pod = client.CoreV1Api(api).read_namespaced_pod(f"{part}-0", "cogniforge")
    port, address = pod.metadata.annotations["prometheus.io/port"], pod.status.pod_ip
    if part == "object-store":  # failure counters appear with the first failure
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"http://{address}:7070/no-such-bucket/x", trust_env=False)
    text = httpx.get(f"http://{address}:{port}/metrics", trust_env=False, timeout=30).text
    given = set(re.findall(r"^([a-zA-Z_][a-zA-Z0-9_]*)[ {]", text, re.MULTILINE))
    assert ASKED[part] - given == set()


def test_the_caches_exporter_takes_no_target_of_a_query(api: client.ApiClient) -> None:
    pod = client.CoreV1Api(api).read_namespaced_pod("cache-0", "cogniforge")
    base = f"http://{pod.status.pod_ip}:{pod.metadata.annotations['prometheus.io/port']}"
    query = {"target": "redis://127.0.0.1:6379"}
    assert httpx.get(f"{base}/scrape", params=query, trust_env=False, timeout=30).status_code == 404
