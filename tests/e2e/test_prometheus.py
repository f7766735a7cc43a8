"""Prometheus in the local environment: it is killed, and faults raise alerts that name the part."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from kubernetes import client

from components.observability.prometheus import NAMESPACE, PART
from local.node.settings import NODE_ADDRESS
from service_images.ports import free_port
from tests.e2e.conftest import environment_with, forge
from tests.e2e.data_client import main_process
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.drill("prometheus"), pytest.mark.timeout(1800)]
PLATFORM, POD = "cogniforge", f"{PART}-0"
FAULTS = {"KafkaNotScraped": "kafka", "RouterAvailabilityBudgetFast": "router"}
"""Alerts of the faults that the drill causes, with the part that each names."""
WITHIN_S = 480
"""Alerts wait for five minutes of a fault; scrapes, evaluations and Alertmanager's group take the rest."""


class Pager(ThreadingHTTPServer):
    """A receiver of the webhook: remembers when each alert came, and when it was resolved."""

    def __init__(self) -> None:
        self.firing: dict[str, tuple[float, dict[str, Any]]] = {}
        self.resolved: dict[str, float] = {}
        pager = self

        class Receiver(BaseHTTPRequestHandler):
            """Handler of Alertmanager's notifications."""

            def do_POST(self) -> None:
                """Remember the alerts of a notification."""
                content = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for alert in content["alerts"]:
                    name = alert["labels"]["alertname"]
                    if alert["status"] == "firing":
                        pager.firing.setdefault(name, (time.monotonic(), alert))
                    else:
                        pager.resolved[name] = time.monotonic()
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """No log."""

        super().__init__((str(NODE_ADDRESS), free_port()), Receiver)


@pytest.fixture(scope="module")
def pager() -> Iterator[Pager]:
    with Pager() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module", autouse=True)
def notified(pager: Pager) -> Iterator[None]:
    """The environment, whose Alertmanager tells the pager."""
    webhook = f"http://{NODE_ADDRESS}:{pager.server_address[1]}/alerts"
    with environment_with(lambda section: section["observability"]["prometheus"].update(webhook=webhook)):
        yield


def ask(path: str, **query: Any) -> Any:
    """Data of an answer of Prometheus' API, through the API server."""
    base = f"/api/v1/namespaces/{NAMESPACE}/services/{PART}:http/proxy/api/v1/{path}"
    return json.loads(forge("kubectl", "get", "--raw", f"{base}?{urlencode(query)}").stdout)["data"]


def answers() -> bool:
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{PART}:http/proxy/-/ready"
    return forge("kubectl", "get", "--raw", path, check=False).returncode == 0


def test_every_target_is_up_and_every_rule_is_evaluated() -> None:
    def down() -> list[str]:
        return [
            f"{t['labels']['job']}: {t['lastError']}" for t in ask("targets")["activeTargets"] if t["health"] != "up"
        ]

    until(lambda: len(ask("targets")["activeTargets"]) > 15 and not down(), 120, lambda: "; ".join(down()))
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    assert len(rules) > 300


def test_a_killed_server_keeps_its_samples(api: client.ApiClient) -> None:
    core, query = client.CoreV1Api(api), 'count_over_time(up{job="router"}[5m])'
    until(lambda: ask("query", query=query)["result"], 60)
    at = time.time()
    before = ask("query", query=query, time=at)["result"]
    (status,) = [one for one in core.read_namespaced_pod(POD, NAMESPACE).status.container_statuses if one.name == PART]
    os.kill(main_process(status.container_id.removeprefix("containerd://")), signal.SIGKILL)
    begun = time.monotonic()
    until(lambda: core.read_namespaced_pod(POD, NAMESPACE).status.container_statuses[0] and not answers(), 30)
    until(answers, 180)
    print(f"prometheus: ready {time.monotonic() - begun:.1f} s after kill -9")
    assert ask("query", query=query, time=at)["result"] == before


def _scraped() -> set[str]:
    """Jobs of which Prometheus has read a target since it started."""
    return {t["labels"]["job"] for t in ask("targets")["activeTargets"] if t["health"] == "up"}


def scale(api: client.ApiClient, kind: str, name: str, replicas: int) -> None:
    apps, body = client.AppsV1Api(api), {"spec": {"replicas": replicas}}
    change = {"StatefulSet": apps.patch_namespaced_stateful_set_scale,
              "Deployment": apps.patch_namespaced_deployment_scale}[kind]  # fmt: skip
    change(name, PLATFORM, body)


def test_faults_raise_alerts_that_name_the_part_and_end_with_them(
    api: client.ApiClient, operator: httpx.Client, pager: Pager
) -> None:
    stopped = [("StatefulSet", "kafka"), ("Deployment", "model-demo")]
    # A server that has just started marks nothing as gone that it has never seen: the last sample then counts for five
    # minutes more.
    until(lambda: set(FAULTS.values()) <= _scraped(), 120)
    ended, begun = threading.Event(), time.monotonic()

    def chat() -> None:
        while not ended.is_set():
            asked = {"model": "demo", "messages": [{"role": "user", "content": f"hello {time.monotonic()}"}]}
            operator.post("/v1/chat/completions", json=asked)
            ended.wait(0.5)

    asking = threading.Thread(target=chat)
    asking.start()
    try:
        for kind, name in stopped:
            scale(api, kind, name, 0)
        until(lambda: set(FAULTS) <= set(pager.firing), WITHIN_S, lambda: f"only {sorted(pager.firing)}")
        found = {name: (round(at - begun), alert) for name, (at, alert) in pager.firing.items()}
        print(
            "faults:", {name: f"{seconds} s, {alert['labels']['severity']}" for name, (seconds, alert) in found.items()}
        )
        for name, part in FAULTS.items():
            alert = found[name][1]
            assert part in alert["annotations"]["summary"].lower()
            assert f"forge logs {part}" in alert["annotations"]["checks"]
        # The neighbours are well: nothing is said about them.
        assert not {name for name in pager.firing if name.startswith(("Postgres", "Nats", "Cache", "ObjectStore"))}
    finally:
        for kind, name in stopped:
            scale(api, kind, name, 1)
        until(lambda: "not ready" not in forge("status", check=False).stdout, 300)
        ended.set()
        asking.join()
    until(lambda: "KafkaNotScraped" in pager.resolved, 420, lambda: str(sorted(pager.resolved)))
