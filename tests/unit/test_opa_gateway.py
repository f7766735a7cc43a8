"""A real Envoy that asks a real OPA, which knows keys from a real NATS, in front of a service that answers all."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import nats as nats_client
import pytest

from components.mesh import entrance, envoy_authorizer
from components.mesh.routes import Authorizer, Backend, GatewayIntent, Rates
from components.observability import alerts_security, boards_security
from components.observability.alert import metrics
from service_images.ports import free_port
from service_images.serving import answering
from tests import opa_server
from tests.envoy_server import Running, gateway
from tests.known_metrics import FOREIGN
from tests.opa_server import bundle, configuration
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("opa")
IN_FORCE_S = 10
MOST_MS = 1000
"""Longest answer without a decision: 50 ms, and what a machine with other work adds."""
PATIENCE_MS = 5000
"""Limit of a decision where the limit is not what is tested: the machine may have other work."""
PATIENCE = f"{PATIENCE_MS / 1000}s"
KEYS = {"operator": ["admin"], "chat": ["inference"], "billing": ["billing"]}
RULES = {"own.rego": 'package own\n\ndeny contains "No lists today." if input.target == "/v1/tenants"\n'}


class _Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_DELETE = do_PUT = _answer

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    with answering(_Service) as port:
        yield port


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opa_server.nats(tmp_path_factory.mktemp("nats")) as url:
        asyncio.run(write(url, {name: {"tenant": "acme", "id": name, "scopes": KEYS[name]} for name in KEYS}))
        yield url


async def write(url: str, entries: Mapping[str, dict[str, Any] | None]) -> None:
    """Publish keys as User does."""
    connection = await nats_client.connect(url)
    store = await connection.jetstream().create_key_value(bucket="tenants")
    for key, grant in entries.items():
        name = f"k.{hashlib.sha256(key.encode()).hexdigest()}"
        await (store.delete(name) if grant is None else store.put(name, json.dumps(grant).encode()))
    await connection.close()


def intent(service: int, port: int, closed: bool = True) -> GatewayIntent:
    config = configuration({"closed": closed, "decisionMilliseconds": PATIENCE_MS})
    found = entrance.intent(config)
    backend = Backend("service", "127.0.0.1", service)
    assert found.authorizer is not None
    return dataclasses.replace(
        found,
        routes=tuple(dataclasses.replace(route, backend=backend) for route in found.routes),
        documents=tuple(dataclasses.replace(one, backend=backend) for one in found.documents),
        rates=Rates((10_000, 100_000), (10_000, 100_000)),
        authorizer=dataclasses.replace(found.authorizer, host="127.0.0.1", port=port),
    )


@dataclass(frozen=True)
class Both:
    """The gateway, and OPA behind it."""

    envoy: Running
    opa: opa_server.Server
    folder: Path

    def ask(self, method: str, path: str, key: str = "", **headers: str) -> httpx.Response:
        shown = {"host": "localhost", **({"authorization": f"Bearer {key}"} if key else {}), **headers}
        return httpx.request(method, f"{self.envoy.url}{path}", headers=shown, timeout=20)


@pytest.fixture(scope="module")
def both(service: int, directory: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("opa")
    opa_server.put(folder, bundle(configuration()))
    away = f"-kafka=127.0.0.1:{free_port()}"  # no decision waits for Kafka
    serving = opa_server.serving(folder, f"-nats={directory}", f"-limit={PATIENCE_MS}ms", away)
    with serving as opa, contextlib.ExitStack() as stack:
        envoy = stack.enter_context(gateway(intent(service, opa.grpc_port), folder))
        found = Both(envoy, opa, folder)
        until(lambda: found.ask("GET", "/v1/self", "chat").status_code == 200, 20, opa.log.read_text)
        yield found


def test_the_scope_of_the_key_decides(both: Both) -> None:
    assert both.ask("POST", "/v1/chat/completions", "chat").status_code == 200
    refused = both.ask("POST", "/v1/chat/completions", "billing")
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/json"
    assert refused.json()["error"]["code"] == "missing_scope"
    assert "inference" in refused.json()["error"]["message"]


def test_unknown_keys_and_operations_are_refused_in_the_format_of_the_api(both: Both) -> None:
    assert both.ask("POST", "/v1/messages", "nobody").json()["error"]["type"] == "authentication_error"
    answer = both.ask("DELETE", "/v1/self", "operator")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert both.ask("GET", "/").status_code == 200


def test_only_operators_reach_their_operations(both: Both) -> None:
    assert both.ask("GET", "/v1/tenants", "operator").status_code == 200
    assert both.ask("GET", "/v1/tenants", "chat").status_code == 403
    assert both.ask("GET", "/v1/admin/routes/a%2Fb", "chat").status_code == 403


def test_keys_are_read_as_services_read_them(both: Both) -> None:
    basic = {"authorization": "Basic OmNoYXQ="}  # ":chat"
    assert both.ask("GET", "/v1/self", **basic).status_code == 200
    assert both.ask("GET", "/v1/self", **basic, **{"sec-fetch-site": "cross-site"}).status_code == 401
    assert both.ask("GET", "/v1/self", **{"x-api-key": "chat"}).status_code == 200


def test_a_revoked_key_is_refused_at_once(both: Both, directory: str) -> None:
    grant = {"tenant": "acme", "id": "short", "scopes": []}
    asyncio.run(write(directory, {"short": grant}))
    until(lambda: both.ask("GET", "/v1/self", "short").status_code == 200, 10)
    asyncio.run(write(directory, {"short": None}))
    until(lambda: both.ask("GET", "/v1/self", "short").status_code == 401, 10)


def test_a_new_bundle_is_in_force_within_ten_seconds_and_a_tampered_one_never(both: Both) -> None:
    config = configuration()
    opa_server.put(both.folder, bundle(config, RULES))
    begun = time.monotonic()
    until(lambda: both.ask("GET", "/v1/tenants", "operator").status_code == 403, IN_FORCE_S, both.opa.log.read_text)
    assert time.monotonic() - begun < IN_FORCE_S
    assert both.ask("GET", "/v1/tenants", "operator").json()["error"]["message"] == "No lists today."
    opa_server.put(both.folder, bundle(config, key="other"))
    until(lambda: "bundle_failed_load_counter" in both.opa.metrics(), IN_FORCE_S, both.opa.log.read_text)
    assert both.ask("GET", "/v1/tenants", "operator").status_code == 403  # the last good one is kept
    opa_server.put(both.folder, bundle(config))
    until(lambda: both.ask("GET", "/v1/tenants", "operator").status_code == 200, IN_FORCE_S, both.opa.log.read_text)


def test_an_operator_breaks_the_glass_and_the_log_says_why(both: Both) -> None:
    opa_server.put(both.folder, bundle(configuration(), RULES))
    until(lambda: both.ask("GET", "/v1/tenants", "operator").status_code == 403, IN_FORCE_S)
    why = {"x-break-glass": "incident 12: a rule denies lists", "x-request-id": "glass-1"}
    assert both.ask("GET", "/v1/tenants", "operator", **why).status_code == 200
    assert both.ask("GET", "/v1/tenants", "chat", **why).status_code == 403
    assert "opa_break_glass_total 1" in both.opa.metrics()
    line = _decided(both, "glass-1", "allowed")
    assert line["result"]["break_glass"] == why["x-break-glass"]
    assert line["input"]["caller"]["id"] == "operator"
    opa_server.put(both.folder, bundle(configuration()))
    until(lambda: both.ask("GET", "/v1/tenants", "operator").status_code == 200, IN_FORCE_S)


def test_it_exports_every_metric_of_alerts_and_panels(both: Both) -> None:
    asked = [one.expression for one in alerts_security.ALERTS if one.part == alerts_security.OPA]
    wanted = set().union(boards_security.POLICY.metrics, *map(metrics, asked)) - FOREIGN
    assert len(wanted) > 3
    both.ask("GET", "/v1/self", "chat")
    opa_server.put(both.folder, bundle(configuration(), key="other"))  # failures are counted from the first on

    def given() -> set[str]:
        return set(re.findall(r"^([a-z_]+)[ {]", both.opa.metrics() + both.envoy.metrics(), re.MULTILINE))

    until(lambda: wanted <= given(), IN_FORCE_S, lambda: str(wanted - given()))
    opa_server.put(both.folder, bundle(configuration()))


def test_the_log_of_decisions_has_the_request_and_no_secret(both: Both) -> None:
    sent = {"x-request-id": "logged-1", "cookie": "secret-cookie"}
    both.ask("GET", "/v1/self?token=secret-query", "chat", **sent)
    line = _decided(both, "logged-1", "allowed")
    assert line["input"] == {
        "method": "GET",
        "target": "/v1/self",
        "caller": {"tenant": "acme", "id": "chat", "scopes": ["inference"]},
    }
    assert f'revision="{line["revision"]}"' in both.opa.metrics()
    text = both.opa.log.read_text()
    digest = hashlib.sha256(b"chat").hexdigest()
    assert not [word for word in ("secret-query", "secret-cookie", "Bearer", digest) if word in text]


def _decided(both: Both, request: str, outcome: str) -> dict[str, Any]:
    """The line of OPA's log about a request. Lines are written in batches."""

    def found() -> list[dict[str, Any]]:
        lines = both.opa.lines()
        return [one for one in lines if one.get("request_id") == request and one["outcome"] == outcome]

    until(lambda: bool(found()), 10, both.opa.log.read_text)
    (line,) = found()
    return line


def _undecided(envoy: Running) -> int:
    """The gateway's counter of requests without a decision."""
    name = 'envoy_http_ext_authz_error{envoy_http_conn_manager_prefix="gateway"}'
    found = re.search(rf"^{re.escape(name)} (\d+)", envoy.metrics(), re.MULTILINE)
    return int(found[1]) if found else 0


def test_a_request_without_a_decision_is_told_from_a_denied_one(service: int, directory: str, tmp_path: Path) -> None:
    """What a node without a free core does: OPA is stalled for longer than the limit, and goes on."""
    opa_server.put(tmp_path, bundle(configuration()))
    with (
        opa_server.serving(tmp_path, f"-nats={directory}") as opa,
        gateway(intent(service, opa.grpc_port), tmp_path) as envoy,
    ):
        found = Both(envoy, opa, tmp_path)
        until(lambda: found.ask("GET", "/v1/self", "chat").status_code == 200, 20, opa.log.read_text)
        before = _undecided(envoy)
        os.kill(opa.process.pid, signal.SIGSTOP)
        stalled = found.ask("GET", "/v1/self", "chat", **{"x-request-id": "stalled"})
        anthropic = found.ask("POST", "/v1/messages", "chat")
        os.kill(opa.process.pid, signal.SIGCONT)
        assert (stalled.status_code, stalled.headers["retry-after"]) == (503, "1")
        assert stalled.json()["error"]["code"] == "policy_undecided"
        assert anthropic.json()["error"]["type"] == "api_error"
        assert _undecided(envoy) == before + 2
        until(lambda: found.ask("GET", "/v1/self", "chat").status_code == 200, 20, opa.log.read_text)
        counted = _undecided(envoy)
        denied = found.ask("GET", "/v1/tenants", "chat")
        assert (denied.status_code, denied.json()["error"]["code"]) == (403, "missing_scope")
        assert "retry-after" not in denied.headers
        assert _undecided(envoy) == counted


def test_a_replica_that_is_gone_costs_no_request_while_there_is_another(
    service: int, directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = envoy_authorizer.cluster

    def two(authorizer: Authorizer) -> dict[str, Any]:
        found = rendered(authorizer)
        address = {"socket_address": {"address": "127.0.0.1", "port_value": free_port()}}
        found["load_assignment"]["endpoints"][0]["lb_endpoints"].append({"endpoint": {"address": address}})
        return {**found, "connect_timeout": PATIENCE}  # a busy machine may take long to connect to the other one

    monkeypatch.setattr(envoy_authorizer, "cluster", two)
    opa_server.put(tmp_path, bundle(configuration()))
    with (
        opa_server.serving(tmp_path, f"-nats={directory}", f"-limit={PATIENCE_MS}ms") as opa,
        gateway(intent(service, opa.grpc_port), tmp_path) as envoy,
    ):
        found = Both(envoy, opa, tmp_path)
        until(lambda: found.ask("GET", "/v1/self", "chat").status_code == 200, 20, opa.log.read_text)
        assert [found.ask("GET", "/v1/self", "chat").status_code for _ in range(40)] == [200] * 40


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("kind", ["away", "slow"])
def test_without_a_decision_operators_operations_are_refused_and_others_as_configured(
    closed: bool, kind: str, service: int, directory: str, tmp_path: Path
) -> None:
    opa_server.put(tmp_path, bundle(configuration()))
    with (
        opa_server.serving(tmp_path, f"-nats={directory}") as opa,
        gateway(intent(service, opa.grpc_port, closed), tmp_path) as envoy,
    ):
        found = Both(envoy, opa, tmp_path)
        until(lambda: found.ask("GET", "/v1/tenants", "operator").status_code == 200, 20, opa.log.read_text)
        os.kill(opa.process.pid, signal.SIGKILL if kind == "away" else signal.SIGSTOP)
        if kind == "away":
            opa.process.wait(10)
        assert found.ask("GET", "/v1/self", "chat", **{"x-request-id": "first"}).status_code == (503 if closed else 200)
        assert found.ask("GET", "/v1/tenants/a/deletion", "operator").status_code == 503
        assert found.ask("HEAD", "/v1/tenants/", "operator").status_code == 503
        assert found.ask("GET", "/v1/tenants/a", "chat").status_code == (503 if closed else 200)
        until(lambda: _logged(envoy, "first"), 20)
        assert _logged(envoy, "first")[0]["duration_ms"] < MOST_MS


def _logged(envoy: Running, request: str) -> list[dict[str, Any]]:
    """The lines of the gateway's log about a request."""
    lines = (json.loads(line) for line in envoy.log.read_text().splitlines() if line.startswith("{"))
    return [one for one in lines if one["request_id"] == request]


def test_a_replica_is_ready_only_once_it_has_received_the_directory(directory: str, tmp_path: Path) -> None:
    opa_server.put(tmp_path, bundle(configuration()))
    away = f"nats://127.0.0.1:{free_port()}"
    with opa_server.serving(tmp_path, f"-nats={away}", wait=False) as opa:
        until(lambda: opa.why_not_ready() == "the directory of keys has not been received yet", 20, opa.log.read_text)
    with opa_server.serving(tmp_path, f"-nats={directory}") as opa:
        assert opa.ready()


def test_a_start_without_the_source_uses_the_copy(tmp_path: Path) -> None:
    opa_server.put(tmp_path, bundle(configuration()))
    with opa_server.serving(tmp_path):
        until(lambda: any((tmp_path / "copy").rglob("*.tar.gz")), 10)
    (tmp_path / "policy" / "bundle.tar.gz").unlink()
    with opa_server.serving(tmp_path) as again:
        assert again.ready()


def test_a_tampered_copy_or_bundle_does_not_come_into_force_at_the_start(tmp_path: Path) -> None:
    opa_server.put(tmp_path, bundle(configuration(), key="other"))
    with opa_server.serving(tmp_path, wait=False) as opa:
        until(lambda: opa.log.exists() and "verif" in opa.log.read_text(), 20)
        assert not opa.ready()


def test_a_bundle_comes_over_http_too(tmp_path: Path) -> None:
    content = bundle(configuration())

    class _Source(_Service):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with answering(_Source) as port:
        url = f"http://127.0.0.1:{port}/policies/local/bundle.tar.gz"
        with opa_server.serving(tmp_path, bundle=url) as opa:
            assert opa.ready()


def test_the_gateway_knows_the_operators_operations_and_shows_bodies_only_where_models_are_limited() -> None:
    found = entrance.intent(configuration({"closed": False})).authorizer
    assert found is not None
    assert (found.closed, found.shows_body) == (False, False)
    assert ("GET", "/v1/tenants") in [(one.method, one.path) for one in found.operators]
    limited = configuration({"tenants": {"acme": {"models": [configuration().models[0].name]}}})
    authorizer = entrance.intent(limited).authorizer
    assert authorizer is not None
    assert authorizer.shows_body
