"""Drill: one trace from the gateway to Billing and Audit. Every part between is the real one, on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import psycopg
import pytest

from cli import spans as spans_of
from components.config.traces import OTLP_GRPC_PORT
from components.mesh.routes import Backend, Spans
from components.observability import jaeger
from components.observability.trace_pipeline import Destination
from local import paths
from service_images.conftest import PostgresServer, running_postgres
from service_images.ports import free_port
from service_images.serving import answering, served
from tests import envoy_server, kafka_server
from tests.span_servers import JaegerServer
from tests.trace_servers import Gateway
from tests.unit.test_envoy_serving import intent
from tests.waiting import until

pytestmark = [pytest.mark.drill("traces"), pytest.mark.xdist_group("traces")]
SOURCES = paths.PROJECT / "service_images"
FOUND_S = 60
"""Seconds until a trace has all of its spans. It takes about 10, and a loaded machine takes its time."""
ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
FORGED = "0af7651916cd43dd8448eb211c80319c"
SECRET, MAIL = "sk-abcdefghij0123456789", "ada@mail.example.com"


class _Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[dict[str, str]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        data = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclasses.dataclass
class Chain:
    """The platform on loopback."""

    url: str
    jaeger: JaegerServer
    model: list[dict[str, str]]
    """Headers that the model server has received."""

    def trace(self, name: str) -> str:
        """ID of the only trace whose gateway span has this name; empty until Jaeger has it."""
        answer = self.jaeger.get(jaeger.QUERY_PORT, "/api/traces?service=gateway&limit=100")
        found = answer.json()["data"] if answer.status_code == 200 else None
        ids = [one["traceID"] for one in found or [] for span in one["spans"] if span["operationName"] == name]
        return ids[0] if ids else ""

    def spans(self, trace: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Jaeger's spans of a trace by (part, name), with tags as a dictionary, and "parent"."""
        answer = self.jaeger.trace(f"00-{trace}-0-0")
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for one in answer["data"] or []:
            for span in one["spans"]:
                span["tags"] = {tag["key"]: tag["value"] for tag in span["tags"]}
                span["parent"] = next((ref["spanID"] for ref in span["references"]), "")
                found[one["processes"][span["processID"]]["serviceName"], span["operationName"]] = span
        return found


@contextlib.contextmanager
def service(name: str, **own: str) -> Iterator[str]:
    """URL of a service that runs as a process."""
    port = free_port()
    folders = [str(SOURCES / part / "src") for part in ("kit", name)]
    variables = {
        "PYTHONPATH": os.pathsep.join(folders),
        "SERVICE_PORT": str(port),
        "SERVICE_HOST": "127.0.0.1",
        "SERVICE_GATEWAY_TRACES": "true",
        **own,
    }
    url = f"http://127.0.0.1:{port}"
    with served([sys.executable, "-m", name], variables, f"{url}/healthz", starts_s=120):
        yield url


def _database(server: PostgresServer, name: str) -> dict[str, str]:
    """Environment variables of a service for its database, with its tables."""
    from kit import migrate
    from kit.settings import ServiceSettings

    made = server.make_database(name)
    sys.path.append(str(SOURCES / name / "src"))
    migrate.migrate(name, ServiceSettings(name=name, **made).database(pooled=False))  # pyright: ignore[reportArgumentType]
    return {f"SERVICE_{key.upper()}": str(value) for key, value in made.items()}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    for part in ("jaeger", "envoy", "kafka", "connect"):
        (folder / part).mkdir()
    with contextlib.ExitStack() as stack:
        spans = JaegerServer(folder / "jaeger")
        spans.start()
        stack.callback(spans.kill)
        receiver = Destination("jaeger", f"http://127.0.0.1:{spans.ports[jaeger.OTLP_PORT]}/v1/traces")
        collector = Gateway(folder / "collector", [receiver], {"keepOneOf": 1})
        collector.start()
        stack.callback(collector.kill)
        postgres = stack.enter_context(running_postgres())
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_level = 'logical'")
        postgres.kill()
        postgres.start()
        own = {name: _database(postgres, name) for name in ("billing", "audit")}
        with psycopg.connect(postgres.url("billing"), autocommit=True) as connection:
            connection.execute("CREATE PUBLICATION outbox FOR TABLE events.outbox WITH (publish = 'insert')")
        from kit import events

        kafka = stack.enter_context(kafka_server.broker(folder / "kafka", events.topics()))
        capture = kafka_server.change_data_capture(folder / "connect", kafka, postgres.port, "billing")
        stack.enter_context(capture)
        handler = type("Model", (_Model,), {"seen": []})
        model = stack.enter_context(answering(handler))
        routes = folder / "routes.json"
        target = {"name": "here", "upstream": f"http://127.0.0.1:{model}"}
        routes.write_text(json.dumps({"routes": [{"model": "demo", "targets": [target]}], "tenants": []}))
        shared = {"SERVICE_OTLP_ENDPOINT": collector.endpoint, "SERVICE_KAFKA_BOOTSTRAP": kafka}
        secrets = {f"SERVICE_{name}_SECRET": f"{name} of these tests" for name in ("SIGNING", "SEALING")}
        urls = {
            "router": stack.enter_context(
                service("router", SERVICE_ROUTES_FILE=str(routes), SERVICE_SPILL_FOLDER=str(folder / "spill"), **shared)
            ),
            "billing": stack.enter_context(service("billing", **own["billing"], **shared)),
            "audit": stack.enter_context(service("audit", **own["audit"], **secrets, **shared)),
        }
        found = intent(1)
        places = {name: int(url.rpartition(":")[2]) for name, url in urls.items()}
        moved = tuple(
            dataclasses.replace(route, backend=Backend(route.backend.name, "127.0.0.1", places[route.backend.name]))
            for route in found.routes
            if route.backend.name in places
        )
        spans_to = Spans("127.0.0.1", collector.ports[OTLP_GRPC_PORT])
        wanted = dataclasses.replace(found, routes=moved, documents=(), services_ask=True, spans=spans_to)
        gateway = stack.enter_context(envoy_server.gateway(wanted, folder / "envoy"))
        yield Chain(gateway.url, spans, handler.seen)


def ask(chain: Chain, path: str, **body: Any) -> httpx.Response:
    headers = {
        "host": "localhost",
        "authorization": f"Bearer {SECRET}",
        "traceparent": f"00-{FORGED}-b7ad6b7169203331-01",
        "baggage": f"user={MAIL}",
    }
    return httpx.post(f"{chain.url}{path}", headers=headers, json=body, trust_env=False, timeout=30)


def arrived(chain: Chain, name: str, *wanted: tuple[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Spans of the trace whose gateway span has this name, once all wanted ones are there."""
    trace = until(lambda: chain.trace(name), FOUND_S)
    assert trace != FORGED
    until(lambda: set(wanted) <= chain.spans(trace).keys(), FOUND_S, lambda: str(sorted(chain.spans(trace))))
    answer = json.dumps(chain.jaeger.trace(f"00-{trace}-0-0"))
    assert [text for text in (SECRET, MAIL, FORGED) if text in answer] == []
    return chain.spans(trace)


def test_a_request_for_a_model_is_one_trace_from_the_gateway_to_billing_and_audit(chain: Chain) -> None:
    question = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
    answer = ask(chain, "/v1/chat/completions", **question)
    assert answer.status_code == 200, answer.text
    names = (
        ("gateway", "POST /v1/"),
        ("router", "POST /v1/chat/completions"),
        ("router", "chat demo"),
        ("billing", "process usage.recorded.v1"),
        ("audit", "process usage.recorded.v1"),
    )
    found = arrived(chain, "POST /v1/", *names)
    gateway, request, call, billing, audit = (found[name] for name in names)
    assert gateway["parent"] == ""
    assert request["parent"] == gateway["spanID"]
    assert call["parent"] == billing["parent"] == audit["parent"] == request["spanID"]
    kinds = [span["tags"]["span.kind"] for span in (gateway, request, call, billing, audit)]
    assert kinds == ["server", "server", "client", "consumer", "consumer"]
    assert call["tags"]["cogniforge.target"] == "here"
    assert chain.model[-1]["traceparent"].split("-")[2] == call["spanID"]
    assert billing["tags"]["messaging.consumer.group.name"] == "billing"
    assert {"user_agent", "peer.address", "http.url"} & gateway["tags"].keys() == set()
    # What `forge explain` and the Portal read.
    shown = spans_of.read(chain.jaeger.trace(f"00-{gateway['traceID']}-0-0"))
    assert {(one.service, one.depth) for one in shown} >= {("gateway", 0), ("router", 1), ("billing", 2), ("audit", 2)}


def test_a_change_is_one_trace_through_the_outbox_and_change_data_capture(chain: Chain) -> None:
    price = {"model": "*", "kind": "input", "usd": "2", "begins": "2026-01-01T00:00:00Z"}
    answer = ask(chain, "/v1/billing/prices", **price)
    assert answer.status_code == 201, answer.text
    names = (("billing", "POST /v1/billing/prices"), ("audit", "process billing.changed.v1"))
    found = arrived(chain, "POST /v1/billing/", *names)
    change, audit = (found[name] for name in names)
    assert change["parent"] == found["gateway", "POST /v1/billing/"]["spanID"]
    assert audit["parent"] == change["spanID"]
