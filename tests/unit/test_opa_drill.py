"""Drill of OPA: two real replicas behind a real Envoy under load, with bundles from a server of bundles."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.mesh import envoy_authorizer
from components.mesh.routes import Authorizer
from components.security import policy_bundle
from service_images.ports import free_port
from service_images.serving import answering
from tests import opa_server
from tests.envoy_server import Running, gateway
from tests.opa_server import bundle, configuration, installation
from tests.unit.test_opa_gateway import PATIENCE, PATIENCE_MS, intent, write
from tests.waiting import until

pytestmark = [pytest.mark.drill("opa"), pytest.mark.xdist_group("opa")]
IN_FORCE_S = 10
SETTLED = 50
"""Answers after which a change is taken to have been met by the load."""
RULES = {"own.rego": 'package own\n\ndeny contains "Not today." if input.method == "DELETE"\n'}


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content = b"{}"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(type(self).content)))
        self.end_headers()
        self.wfile.write(type(self).content)

    do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        return None


class _Bundles(_Answers):
    """A server of bundles, like the object store."""


@dataclass
class Load:
    """Requests of a tenant without pause."""

    envoy: Running
    stop: threading.Event = field(default_factory=threading.Event)
    answers: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])

    def run(self) -> None:
        headers = {"host": "localhost", "authorization": "Bearer chat"}
        with httpx.Client(timeout=30) as client:
            while not self.stop.is_set():
                answer = client.get(f"{self.envoy.url}/v1/self", headers=headers)
                error = "" if answer.status_code == 200 else answer.json()["error"]["code"]
                self.answers[answer.status_code, error] += 1

    def refused(self) -> int:
        """Requests without an answer of the service."""
        return self.answers.total() - self.answers[200, ""]

    def wait(self) -> None:
        """Wait for more answers."""
        before = self.answers.total()
        until(lambda: self.answers.total() > before + SETTLED, 60)


@contextmanager
def loaded(envoy: Running) -> Iterator[Load]:
    """Load on the gateway."""
    load = Load(envoy)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        thread.join(60)


@dataclass
class Replicas:
    """A gateway that asks two replicas, which can be killed and started."""

    folder: Path
    more: tuple[str, ...]
    source: str
    ports: tuple[tuple[int, int], tuple[int, int]]
    running: list[ExitStack]
    servers: dict[int, opa_server.Server]
    envoy: Running

    def kill(self, number: int) -> None:
        """kill -9."""
        self.servers[number].process.kill()
        self.servers[number].process.wait(20)

    def start(self, number: int) -> None:
        """Start a replica at its address."""
        place = self.folder / str(number)
        place.mkdir(exist_ok=True)
        self.running[number].close()
        one = opa_server.serving(place, *self.more, bundle=self.source, ports=self.ports[number])
        self.servers[number] = self.running[number].enter_context(one)

    def wait(self, number: int) -> None:
        """Wait until the gateway asks a replica again: it needs a new connection."""
        until(lambda: 'opa_decision_seconds_count{outcome="allowed"' in self.servers[number].metrics(), 60)

    def revisions(self) -> set[str]:
        """What each replica's metrics call the bundle in force."""
        texts = [server.metrics() for server in self.servers.values()]
        return {re.findall(r'last_success_bundle_activation\{active_revision="(\w+)"', text)[-1] for text in texts}

    def delete(self) -> int:
        """The status of a request that the rule of RULES denies."""
        headers = {"host": "localhost", "authorization": "Bearer operator"}
        return httpx.delete(f"{self.envoy.url}/v1/tenants/a", headers=headers, timeout=30).status_code


@pytest.fixture
def replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicas]:
    ports = (free_port(), free_port()), (free_port(), free_port())
    rendered = envoy_authorizer.cluster

    def both(authorizer: Authorizer) -> dict[str, Any]:
        found = rendered(authorizer)
        address = {"socket_address": {"address": "127.0.0.1", "port_value": ports[1][0]}}
        found["load_assignment"]["endpoints"][0]["lb_endpoints"].append({"endpoint": {"address": address}})
        return {**found, "connect_timeout": PATIENCE}

    monkeypatch.setattr(envoy_authorizer, "cluster", both)
    monkeypatch.setattr(_Bundles, "content", bundle(configuration()))
    with (
        opa_server.nats(tmp_path) as directory,
        answering(_Answers) as service,
        answering(_Bundles) as source,
        gateway(intent(service, ports[0][0]), tmp_path) as envoy,
        ExitStack() as first,
        ExitStack() as second,
    ):
        grants = {"chat": ["inference"], "operator": ["admin"]}
        asyncio.run(write(directory, {n: {"tenant": "acme", "id": n, "scopes": s} for n, s in grants.items()}))
        more = f"-nats={directory}", f"-limit={PATIENCE_MS}ms", "-poll=3s"
        url = f"http://127.0.0.1:{source}/{policy_bundle.FILE}"
        found = Replicas(tmp_path, more, url, ports, [first, second], {}, envoy)
        for number in range(2):
            found.start(number)
        until(lambda: found.delete() == 200, 30)
        yield found


def test_replicas_that_are_killed_in_turn_cost_no_request_but_the_one_that_waits_for_them(replicas: Replicas) -> None:
    with loaded(replicas.envoy) as load:
        load.wait()
        for number in range(2):
            replicas.kill(number)
            load.wait()
            replicas.start(number)
            replicas.wait(number)
    assert load.refused() <= 2, load.answers  # the load has one request at a time


def test_without_any_replica_requests_are_refused_as_undecided_and_allowed_as_soon_as_one_is_back(
    replicas: Replicas,
) -> None:
    with loaded(replicas.envoy) as load:
        load.wait()
        for number in range(2):
            replicas.kill(number)
        load.wait()
        assert load.answers[503, "policy_undecided"]
        assert replicas.delete() == 503
        replicas.start(0)
        until(lambda: replicas.delete() == 200, 30)
    assert set(load.answers) == {(200, ""), (503, "policy_undecided")}, load.answers


def test_a_new_bundle_is_in_force_in_all_replicas_within_ten_seconds_and_a_tampered_one_in_none(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration()
    with loaded(replicas.envoy) as load:
        load.wait()
        (before,) = replicas.revisions()
        monkeypatch.setattr(_Bundles, "content", bundle(config, RULES, key="other"))
        until(
            lambda: all("bundle_failed_load_counter" in one.metrics() for one in replicas.servers.values()), IN_FORCE_S
        )
        load.wait()
        assert (replicas.revisions(), replicas.delete()) == ({before}, 200)
        monkeypatch.setattr(_Bundles, "content", bundle(config, RULES))
        begun = time.monotonic()
        after = policy_bundle.revision(policy_bundle.contents(installation(config), RULES))
        until(lambda: replicas.revisions() == {after}, IN_FORCE_S)
        print(f"in force in both replicas after {time.monotonic() - begun:.1f} s")
        assert [replicas.delete() for _ in range(10)] == [403] * 10
        monkeypatch.setattr(_Bundles, "content", b"")
        load.wait()
        assert load.refused() == 0, load.answers
        replicas.kill(0)
        replicas.start(0)  # from its copy: the source has no bundle now
        assert replicas.revisions() == {after}
    assert load.refused() <= 1, load.answers
