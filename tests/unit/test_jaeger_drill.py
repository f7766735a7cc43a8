"""Drill of Jaeger: the real server with the platform's configuration keeps what real services have traced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import spans as spans_of
from components.observability import jaeger
from tests.span_servers import FOUND_S, JaegerServer
from tests.waiting import until

pytestmark = [pytest.mark.drill("traces"), pytest.mark.xdist_group("traces")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JaegerServer]:
    made = JaegerServer(tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def test_one_trace_of_two_services_is_found_in_time(server: JaegerServer) -> None:
    outer = server.tell("router")
    ended = time.monotonic()
    server.tell("guardrails", outer)
    until(lambda: len(spans_of.read(server.trace(outer))) == 4, FOUND_S)
    assert time.monotonic() - ended < FOUND_S
    found = spans_of.read(server.trace(outer))
    assert [(one.service, one.name, one.depth) for one in found] == [
        ("router", "outer", 0),
        ("router", "chat demo", 1),
        ("guardrails", "outer", 1),
        ("guardrails", "chat demo", 2),
    ]
    tags = {tag["key"]: tag["value"] for span in server.trace(outer)["data"][0]["spans"] for tag in span["tags"]}
    assert tags["gen_ai.usage.output_tokens"] == 34 and tags["openinference.span.kind"] == "LLM"


def test_spans_outlive_a_kill(server: JaegerServer) -> None:
    outer = server.tell("router")
    until(lambda: len(spans_of.read(server.trace(outer))) == 2, FOUND_S)
    server.kill()
    assert server.start() < 30
    until(lambda: len(spans_of.read(server.trace(outer))) == 2, FOUND_S)


def test_a_service_answers_while_jaeger_is_away_and_its_spans_are_lost_only(server: JaegerServer) -> None:
    server.kill()
    began = time.monotonic()
    outer = server.tell("router")
    assert time.monotonic() - began < 60, "the service has ended without Jaeger"
    server.start()
    assert spans_of.read(server.trace(outer)) == []
    later = server.tell("router")
    until(lambda: len(spans_of.read(server.trace(later))) == 2, FOUND_S)


def test_its_metrics_are_exported(server: JaegerServer) -> None:
    server.tell("router")
    wanted = "otelcol_receiver_accepted_spans"
    until(lambda: wanted in server.get(jaeger.METRICS_PORT, "/metrics").text, 30)
