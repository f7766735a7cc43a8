"""Drill of logs: real VictoriaLogs and the real collector, which reads files laid out as on a node."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.log_lines import Store
from components.observability.log_pipeline import LINE_BYTES
from components.observability.log_query import LogQuery
from local.errors import LocalError
from tests.log_servers import Collector, PodLog, VictoriaLogsServer, pod_log, recent, texts, victoria_logs
from tests.waiting import until

pytestmark = [pytest.mark.drill("logs"), pytest.mark.xdist_group("logs")]
FOUND_S = 5
"""A line is found at most so long after it was written (issue 22)."""
TRACE = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[VictoriaLogsServer, Store]]:
    with victoria_logs(tmp_path_factory.mktemp("store") / "victoria") as found:
        yield found


class Node:
    """A node with the log of one container, its collector, and the store."""

    def __init__(self, folder: Path, server: VictoriaLogsServer, store: Store) -> None:
        self.pods = folder / "pods"
        self.server, self.store = server, store
        self.log: PodLog = pod_log(self.pods, "router")
        self.collector = Collector(folder / "collector", self.pods, server)

    def found(self, count: int, seconds: float = FOUND_S, **wanted: object) -> list[str]:
        """Texts of lines, once there are so many."""
        query = recent(**wanted)
        until(lambda: len(self.store.lines(query)) >= count, seconds, lambda: str(len(self.store.lines(query))))
        return texts(self.store.lines(query))


@pytest.fixture
def node(tmp_path: Path) -> Generator[Node]:
    with victoria_logs(tmp_path / "victoria") as (server, store):
        one = Node(tmp_path, server, store)
        one.collector.start()
        try:
            yield one
        finally:
            one.collector.kill()


def test_a_line_is_found_in_time_with_the_fields_of_its_place(node: Node) -> None:
    line = {"message": "request done", "level": "info", "tenant": "acme", "trace_id": TRACE, "path": "/v1/models"}
    node.log.write(json.dumps(line), "plain text", stream="stderr")
    pod_log(node.pods, "other", namespace="somebody-elses").write("not of the platform")
    assert set(node.found(2)) == {json.dumps(line), "plain text"}
    (found,) = node.store.lines(recent(trace=TRACE))
    assert (found.namespace, found.pod, found.container, found.service, found.stream) == (
        "cogniforge",
        "router-0",
        "router",
        "router",
        "stderr",
    )
    assert (found.level, found.tenant, found.trace) == ("info", "acme", TRACE)
    assert texts(node.store.lines(recent(tenant="acme"))) == [json.dumps(line)]
    assert node.store.lines(recent(tenant="acm")) == node.store.lines(recent(service="route")) == []
    (plain,) = node.store.lines(recent(grep="plain"))
    assert (plain.level, plain.tenant, plain.trace) == ("", "", "")


def test_lines_arrive_after_the_store_was_away_for_20_seconds(node: Node) -> None:
    node.server.stop(kill=True)
    for number in range(20):
        node.log.write(f"while away {number}")
        time.sleep(1)  # the outage itself
    node.server.start()
    assert set(node.found(20, 30)) == {f"while away {number}" for number in range(20)}


def test_a_killed_collector_loses_no_line(node: Node) -> None:
    chance = random.Random(22)
    for number in range(12):
        node.log.write(*(f"line {number}-{n}" for n in range(50)))
        time.sleep(chance.uniform(0, 0.8))  # the moment of the kill
        node.collector.kill()
        node.collector.start()
    expected = {f"line {number}-{n}" for number in range(12) for n in range(50)}
    until(lambda: set(texts(node.store.lines(recent()))) == expected, 120, lambda: str(len(node.store.lines(recent()))))


def test_a_collector_and_a_store_that_are_killed_together_lose_no_line(node: Node) -> None:
    node.server.stop(kill=True)
    node.log.write(*(f"queued {n}" for n in range(200)))
    until(lambda: any((node.collector.folder / "state").iterdir()), 10)
    node.collector.kill()
    node.collector.start()
    node.server.start()
    assert set(node.found(200, 30)) == {f"queued {n}" for n in range(200)}


def test_a_line_of_one_megabyte_is_stored_in_pieces_and_hurts_nobody(node: Node) -> None:
    big = "".join(f"{n:08}" for n in range(2**20 // 8))
    node.log.write("before", big, "after")
    found = node.found(2 + 2**20 // LINE_BYTES)
    assert {"before", "after"} < set(found)
    pieces = [one for one in found if one not in ("before", "after")]
    assert sorted("".join(sorted(pieces))) == sorted(big)
    assert max(len(one) for one in pieces) <= LINE_BYTES + 16384


@pytest.mark.parametrize(
    "text",
    [
        '{"message": "cut of',
        "{}",
        "{" * 5000,
        '{"a":' * 20_000 + "1" + "}" * 20_000,
        '[{"level": "error"}]',
        '{"level": {"level": "error"}, "tenant": 7, "trace_id": null}',
        '{"level": "error\\u0000", "tenant": "a b", "trace_id": "0123"}',
        "\u2028 \x1b[31m red \x07 \x00",
    ],
    ids=["cut", "empty", "braces", "deep", "list", "types", "forms", "control"],
)
def test_json_that_is_none_is_stored_as_text(node: Node, text: str) -> None:
    node.log.write(text, "", "after")
    assert set(node.found(2)) == {text, "after"}
    assert {(line.level, line.tenant, line.trace) for line in node.store.lines(recent())} == {("", "", "")}


def test_a_line_cannot_pose_as_another_part_or_another_time(node: Node) -> None:
    forged = {
        "message": "forged", "service": "billing", "service.name": "billing", "k8s.pod.name": "billing-0",
        "k8s.namespace.name": "kube-system", "log.iostream": "stderr", "_time": "2020-01-01T00:00:00Z",
        "timestamp": "2020-01-01T00:00:00Z", "_msg": "another", "_stream": '{service.name="billing"}',
        "resource": {"attributes": {"service.name": "billing"}}, "severity_text": "error", "level": "INFO",
    }  # fmt: skip
    node.log.write(json.dumps(forged))
    node.found(1)
    (found,) = node.store.lines(recent())
    assert (found.service, found.pod, found.namespace) == ("router", "router-0", "cogniforge")
    assert (found.stream, found.level, found.text) == ("stdout", "info", json.dumps(forged))
    assert abs(datetime.fromisoformat(found.time[:26] + "+00:00") - datetime.now(UTC)) < timedelta(minutes=1)
    assert node.store.lines(recent(service="billing")) == []


@pytest.mark.parametrize("minutes", [-10, 10])
def test_lines_of_a_clock_that_is_ten_minutes_off_are_found(node: Node, minutes: int) -> None:
    node.log.write("off", at=datetime.now(UTC) + timedelta(minutes=minutes))
    assert node.found(1) == ["off"]


def test_no_secret_reaches_the_store(node: Node) -> None:
    key = "cf-" + "k" * 40
    node.log.write(f"Authorization: Bearer {key}", json.dumps({"message": "login", "password": 'a"b', "tenant": key}))
    found = node.found(2)
    assert sorted(found) == ["Authorization: Bearer [redacted]", json.dumps(
        {"message": "login", "password": "[redacted]", "tenant": "[redacted]"})]  # fmt: skip
    assert {line.tenant for line in node.store.lines(recent())} == {""}


def test_files_that_the_kubelet_rotates_are_read_to_their_end(node: Node) -> None:
    node.log.write("first")
    node.found(1)
    node.log.write("last of the old file")
    node.log.file.rename(node.log.file.with_name("0.log.20260101-000000"))
    node.log.write("first of the new file")
    assert set(node.found(3)) == {"first", "last of the old file", "first of the new file"}


def test_the_store_refuses_who_has_no_login(stored: tuple[VictoriaLogsServer, Store]) -> None:
    server, store = stored
    for path in ("/select/logsql/query?query=*", "/insert/jsonline", "/metrics", "/debug/pprof/cmdline"):
        assert httpx.get(f"{server.url}{path}").status_code == 401
    with httpx.Client(base_url=server.url) as stranger, pytest.raises(LocalError) as refused:
        Store(store.engine, stranger).lines(recent())
    assert "status 401" in str(refused.value.reason)


NASTY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(
    ['"', "\\", "\\\"", '" or "', "` or `", "*", "a.b", "(", "[a-z]", "| delete", "}", "{", "\n", "\x00", "é", "\u2028",
     "' or _msg:*", "$1", "${env:HOME}", "and", "or", "not", "!", "=", ":", "<", ">", "\x7f"]
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(stored: tuple[VictoriaLogsServer, Store]) -> list[dict[str, str]]:
    """Lines of awkward characters, inserted past the collector."""
    chance = random.Random(7)
    alphabet = [*"aAbB01 _-.:*?+()[]{}|^$\\\"'`/<>=!~#&%,;\t", "\n", "\x00", "\x1b", "é", "日", "\u2028", "\U0001f600",
                " or ", "and", "not "]  # fmt: skip

    def some(least: int, most: int) -> str:
        return "".join(chance.choice(alphabet) for _ in range(chance.randint(least, most)))

    now = datetime.now(UTC)
    lines = [
        {
            "_time": (now - timedelta(milliseconds=n)).isoformat(),
            "_msg": "m" + some(1, 30) + "m",
            "service.name": some(1, 4),
            "tenant": some(1, 4),
        }
        for n in range(300)
    ]
    server, store = stored
    server.insert(lines)
    until(lambda: len(store.lines(recent())) == len(lines), 30, lambda: str(len(store.lines(recent()))))
    return lines


@settings(max_examples=300)
@given(data=st.data())
def test_what_a_user_asks_for_is_never_read_as_a_query(
    stored: tuple[VictoriaLogsServer, Store], corpus: list[dict[str, str]], data: st.DataObject
) -> None:
    line = data.draw(st.sampled_from(corpus))
    begin = data.draw(st.integers(0, len(line["_msg"]) - 1))
    part = line["_msg"][begin : begin + data.draw(st.integers(1, 8))]
    grep = data.draw(st.sampled_from(["", part]) | NASTY)
    service = data.draw(st.sampled_from(["", line["service.name"]]) | NASTY)
    tenant = data.draw(st.sampled_from(["", line["tenant"]]) | NASTY)
    query: LogQuery = recent(grep=grep, service=service, tenant=tenant)
    expected = sorted(
        one["_msg"]
        for one in corpus
        if (not service or one["service.name"] == service)
        and (not tenant or one["tenant"] == tenant)
        and (not query.texts or any(text in one["_msg"] for text in query.texts))
    )
    assert sorted(texts(stored[1].lines(query))) == expected
