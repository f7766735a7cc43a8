"""Decisions that Audit keeps: a real OPA behind a real Envoy sends them to a real Kafka, which may be away."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from confluent_kafka import Consumer

from components import event_schemas
from components.security.opa import DATA
from service_images.ports import free_port
from tests import kafka_server, opa_server
from tests.envoy_server import gateway
from tests.opa_server import bundle, configuration
from tests.unit.test_opa_gateway import PATIENCE_MS, Both, directory, intent, service
from tests.waiting import until

pytestmark = [pytest.mark.drill("opa"), pytest.mark.xdist_group("opa"), pytest.mark.timeout(300)]
assert directory, service  # fixtures
TOPIC = DATA.produces[0]
ARRIVES_S = 60


@pytest.fixture
def both(service: int, directory: str, tmp_path: Path) -> Iterator[tuple[Both, int]]:
    """The gateway and OPA, and the port where Kafka will be."""
    port = free_port()
    opa_server.put(tmp_path, bundle(configuration()))
    login = (f"-nats={directory}", f"-limit={PATIENCE_MS}ms", f"-kafka=127.0.0.1:{port}")
    with opa_server.serving(tmp_path, *login) as opa, gateway(intent(service, opa.grpc_port), tmp_path) as envoy:
        found = Both(envoy, opa, tmp_path)
        until(lambda: found.ask("GET", "/v1/self", "chat").status_code == 200, 20, opa.log.read_text)
        yield found, port


def _events(bootstrap: str, wanted: int) -> list[dict[str, Any]]:
    """The topic's events, once there are so many."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{time.time()}", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        message = consumer.poll(0.5)
        if message is not None and not message.error():
            found.append(json.loads(message.value()))
        return len(found) >= wanted

    until(enough, ARRIVES_S, lambda: str(found))
    consumer.close()
    return found


def test_refusals_and_operators_writes_are_events_with_the_request_and_no_secret(
    both: tuple[Both, int], tmp_path: Path
) -> None:
    place, port = both
    (tmp_path / "kafka").mkdir()
    with kafka_server.broker(tmp_path / "kafka", [TOPIC], port) as bootstrap:
        assert place.ask("POST", "/v1/chat/completions", "chat", **{"x-request-id": "plain"}).status_code == 200
        assert place.ask("GET", "/v1/tenants", "nobody", **{"x-request-id": "nobody"}).status_code == 401
        assert place.ask("GET", "/v1/tenants", "operator", **{"x-request-id": "look"}).status_code == 200
        assert place.ask("DELETE", "/v1/tenants/x", "operator", **{"x-request-id": "write"}).status_code == 200
        for number in range(20):
            sent = {"x-request-id": f"no-{number}", "cookie": "secret-cookie"}
            refused = place.ask("DELETE", f"/v1/tenants/{number}?token=secret-query", "chat", **sent)
            assert refused.status_code == 403
        place.opa.process.send_signal(signal.SIGTERM)  # what is counted is sent before it ends
        assert place.opa.process.wait(30) == 0
        found = {event["subject"]: event for event in _events(bootstrap, 3)}
    assert found.keys() == {"request/write", "request/no-0", "request/no-19"}
    for event in found.values():
        jsonschema.validate(event["data"], event_schemas.current()[TOPIC])
        assert (event["type"], event["source"]) == (f"dev.cogniforge.{TOPIC}", "/services/opa")
    write, first, others = (found[f"request/{name}"]["data"] for name in ("write", "no-0", "no-19"))
    assert (write["outcome"], write["key"], write["target"]) == ("allowed", "operator", "/v1/tenants/x")
    assert (first["outcome"], first["rule"], first["status"], first["times"]) == ("denied", "missing_scope", 403, 1)
    assert (others["key"], others["target"], others["times"]) == ("chat", "/v1/tenants/19", 19)
    assert "secret" not in json.dumps(list(found.values()))


def test_decisions_do_not_wait_for_kafka_and_arrive_once_it_is_there(both: tuple[Both, int], tmp_path: Path) -> None:
    place, port = both
    assert place.ask("DELETE", "/v1/tenants/early", "operator").status_code == 200
    until(lambda: "opa_decision_events_waiting 1" in place.opa.metrics(), 20, place.opa.metrics)
    (tmp_path / "kafka").mkdir()
    with kafka_server.broker(tmp_path / "kafka", [TOPIC], port) as bootstrap:
        (event,) = _events(bootstrap, 1)
        until(lambda: "opa_decision_events_waiting 0" in place.opa.metrics(), 20, place.opa.metrics)
    assert event["data"]["target"] == "/v1/tenants/early"
    assert "opa_decision_events_dropped_total 0" in place.opa.metrics()
