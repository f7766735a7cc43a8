"""Spans and log lines on a request's page: who sees them, hostile texts, and servers that fail."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit.ledger import spans
from portal import recorded, servers

from components.observability import log_pipeline
from service_images.portal.tests.alone import page
from service_images.portal.tests.conftest import TRACE, record, usage
from service_images.portal.tests.faulty import MIB, Faulty, faulty
from service_images.portal.tests.running_platform import OPERATOR, Platform
from service_images.portal.tests.test_bad_cases import ATTACK, _harmless


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[None]:
    """A machine that others use, too, takes longer than a page waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "ANSWER_S", 60.0)
        yield


@pytest.fixture
def name(operator: httpx.Client, tenant: str) -> str:
    """ID of a request of a tenant, with a trace."""
    made = f"traced-{uuid.uuid4().hex[:8]}"
    record(operator, usage(tenant, request=made, status=200, key="key-7"))
    return made


@pytest.fixture
def server() -> Iterator[Faulty]:
    with faulty() as made:
        yield made


def shown(platform: Platform, name: str, *scopes: str, key: str = OPERATOR, **telemetry: Any) -> str:
    """The request's page of a reader with these scopes."""
    return page(f"/portal/requests/one?id={name}", *scopes, key=key, **platform.portal() | telemetry)


def span(number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    """A span as Jaeger gives it."""
    around = [] if parent is None else [{"refType": "CHILD_OF", "spanID": str(parent)}]
    return {"spanID": str(number), "operationName": f"span {number}", "processID": "p", "references": around,
            "startTime": 1_000_000 + number, "duration": 5000, **more}  # fmt: skip


def trace(*found: dict[str, Any], service: str = "router") -> dict[str, Any]:
    """Jaeger's answer."""
    return {"data": [{"spans": found, "processes": {"p": {"serviceName": service}}}]}


def test_without_the_servers_the_page_says_how_to_switch_them_on(platform: Platform, name: str) -> None:
    found = shown(platform, name, "admin")
    assert "traces: {}" in found and "logs: {}" in found and f"forge logs --trace {TRACE}" in found


def test_others_than_operators_get_none_and_nothing_is_asked_for_them(
    platform: Platform, name: str, server: Faulty, make_key: Callable[..., str]
) -> None:
    """A client chooses the trace ID of its request, so it could name the trace of another tenant."""
    given = {"jaeger_url": server.url, "log_store_url": server.url}
    found = shown(platform, name, "billing", "audit", key=make_key(), **given)
    assert "Its log lines and spans are for operators" in found and TRACE in found
    assert server.paths == []


def test_the_spans_of_all_parts_of_a_request_are_shown_with_their_names(
    platform: Platform, name: str, server: Faulty
) -> None:
    whole = {
        "gateway": span(1, processID="gateway", operationName="POST /v1/"),
        "router": span(2, 1, processID="router", operationName="chat demo"),
        **{
            consumer: span(
                number, 2, processID=consumer, operationName="process usage.recorded.v1", startTime=9_000_000
            )
            for number, consumer in ((3, "billing"), (4, "audit"))
        },
    }
    processes = {part: {"serviceName": part} for part in whole}
    server.body = json.dumps({"data": [{"spans": [*whole.values()], "processes": processes}]}).encode()
    found = shown(platform, name, "admin", jaeger_url=server.url)
    rows = re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
    for part, one in whole.items():
        assert [row for row in rows if part in row and one["operationName"] in row], part


def test_texts_of_spans_and_lines_are_text(platform: Platform, name: str, server: Faulty) -> None:
    server.body = json.dumps(trace(span(1), span(2, 1, operationName=ATTACK), service=ATTACK)).encode()
    found = shown(platform, name, "admin", jaeger_url=server.url)
    _harmless(found)
    assert found.count(ATTACK[:8]) == 0 and 'class="indent-1"' in found and "5 ms" in found
    line = {"_time": "2026-11-28T00:00:00.5Z", "service.name": ATTACK, "level": "error",
            "_msg": json.dumps({"message": ATTACK, "more": ATTACK, "trace_id": TRACE})}  # fmt: skip
    server.body = json.dumps(line).encode() + b"\n" + json.dumps({**line, "_msg": "[" * 100_000}).encode()
    found = shown(platform, name, "admin", log_store_url=server.url)
    _harmless(found)
    assert "more=&lt;script&gt;" in found and "2026-11-28 00:00:00 UTC" in found and "(cut)" in found


@pytest.mark.parametrize("setting", ["jaeger_url", "log_store_url"])
def test_a_server_that_fails_is_named_and_the_rest_of_the_page_stands(
    platform: Platform, name: str, server: Faulty, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = "Jaeger" if setting == "jaeger_url" else "The log store"

    def found() -> str:
        made = shown(platform, name, "admin", **{setting: server.url})
        assert "key-7" in made and "1,000 read" in made
        return made

    for body in (b"<html>", b'{"data": 7}', b'{"data": [{"spans": [{}]}]}', b"[1]", b'{"_time": 1, "_msg'):
        server.body = body
        assert "an unknown form" in found(), body
    server.body, server.times = MIB, 5
    assert f"{title} sent more than 4 MiB" in found()
    server.times, server.status = 1, 500
    assert f"{title} answered 500" in found()
    server.hangs = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(servers, "ANSWER_S", 0.5)
        assert f"{title} has not answered within 0.5 seconds" in found()
    server.hangs.set()
    server.url = "http://127.0.0.1:9"
    assert f"{title} does not answer" in found()


def test_a_huge_trace_is_cut_and_the_page_stays_small(platform: Platform, name: str, server: Faulty) -> None:
    server.body = json.dumps(trace(*(span(n, n - 1, operationName="x" * 1000) for n in range(3000)))).encode()
    found = shown(platform, name, "admin", jaeger_url=server.url)
    assert "2,900 more spans are not shown" in found and len(found.encode()) < 200_000


def test_depths_end_at_unknown_parents_at_circles_and_at_the_limit() -> None:
    read = spans.read(trace(span(1, 7), span(2, 3), span(3, 2), span(4, 1)))
    assert [one["depth"] for one in read] == [0, 2, 2, 1]
    deep = spans.read(trace(*(span(n, n - 1) for n in range(200))))
    assert max(one["depth"] for one in deep) == spans.DEEPEST
    assert spans.read({"data": []}) == [] and spans.read({"data": [{"spans": [], "processes": {}}]}) == []


def test_the_login_of_the_store_is_read_anew(platform: Platform, name: str, server: Faulty, tmp_path: Path) -> None:
    file = tmp_path / "login"
    given = {"log_store_url": server.url, "log_store_login": file}
    server.body = b""
    assert "There are no lines" in shown(platform, name, "admin", **given), "a missing file is no error"
    file.write_text("Basic secret-of-this-test\n")
    found = shown(platform, name, "admin", **given)
    assert server.headers[-1]["authorization"] == "Basic secret-of-this-test" and "secret-of-this-test" not in found


def test_the_fields_are_those_that_the_collector_writes() -> None:
    assert (recorded.TRACE_FIELD, recorded.SERVICE_FIELD, recorded.LEVEL_FIELD) == (
        log_pipeline.TRACE,
        log_pipeline.SERVICE,
        log_pipeline.LEVEL,
    )
