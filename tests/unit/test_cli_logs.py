"""Output of `forge logs` where it asks the log store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from cli import log_lines, stack
from cli.log_lines import Store
from components.config.parse import parse
from components.observability.log_query import LogQuery, VictoriaLogs
from tests.unit.test_cli_output import Run, golden, run
from tests.unit.test_platform import without_servers

__all__ = ["run"]
PLACE = {"k8s.namespace.name": "cogniforge", "k8s.container.name": "router", "log.iostream": "stdout"}
FOUND = [
    {
        "_time": "2026-11-27T10:00:02.25Z", "_msg": '{"message": "target [a] failed", "level": "error", "status": 502}',
        "service.name": "router", "level": "error", "k8s.pod.name": "router-1", **PLACE,
    },
    {
        "_time": "2026-11-27T10:00:01.000000001Z", "_msg": "\x1b[2J not from a service", "service.name": "postgres",
        "k8s.pod.name": "postgres-0", **PLACE, "tenant": "acme", "trace_id": "f" * 32,
    },
]  # fmt: skip
Asked = list[dict[str, list[str]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What a store is asked, that answers with two lines, or with none where the question has the text "nothing"."""
    requests: Asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(parse_qs(request.content.decode()))
        lines = [] if "nothing" in requests[-1]["query"][0] else FOUND
        return httpx.Response(200, text="".join(json.dumps(line) + "\n" for line in lines))

    @contextlib.contextmanager
    def opened(_: str) -> Iterator[Store]:
        with httpx.Client(base_url="http://store", transport=httpx.MockTransport(answer)) as client:
            yield Store(VictoriaLogs(), client)

    monkeypatch.setattr(log_lines, "opened", opened)
    return requests


@pytest.mark.parametrize("form", ["txt", "json"])
def test_lines_of_the_store(run: Run, asked: Asked, form: str) -> None:
    command = ["logs", "--since", "15m", "--tenant", "acme", "-n", "7", *(["-o", "json"] if form == "json" else [])]
    golden("logs.json" if form == "json" else "logs-found.txt", run(*command))
    (question,) = asked
    assert question["query"] == ['"tenant":="acme"'] and question["limit"] == ["7"]
    age = datetime.now(UTC) - datetime.fromisoformat(question["start"][0])
    assert 14.9 < age.total_seconds() / 60 < 16


def test_no_line(run: Run, asked: Asked) -> None:
    golden("logs-none.txt", run("logs", "--grep", "nothing"))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("bad-since", ["logs", "--since", "1w"]),
        ("node-and-store", ["logs", "kubelet", "--node", "--since", "1h"]),
    ],
)
def test_mistakes(run: Run, asked: Asked, name: str, command: list[str]) -> None:
    golden(f"logs-{name}.txt", run(*command), 1)
    assert asked == []


def test_an_environment_without_a_store(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "read_config", lambda _: parse(without_servers("local")))
    golden("logs-no-store.txt", run("logs", "--grep", "x"), 1)


def test_a_follower_shows_each_line_once_and_asks_again_from_before_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[LogQuery] = []
    late: dict[str, Any] = {**FOUND[0], "_time": "2026-11-27T10:00:01.5Z", "_msg": "late"}

    class Growing(Store):
        def lines(self, query: LogQuery) -> Any:
            questions.append(query)
            content = FOUND if len(questions) == 1 else [*FOUND, late]
            return list(VictoriaLogs().read("".join(json.dumps(line) + "\n" for line in content)))

    monkeypatch.setattr(log_lines.time, "sleep", lambda _: None)
    since = datetime(2026, 11, 27, 9, tzinfo=UTC)
    found = log_lines.follow(Growing(VictoriaLogs(), httpx.Client()), LogQuery(since, 5))
    assert [next(found).text for _ in range(3)] == [FOUND[0]["_msg"], FOUND[1]["_msg"], "late"]
    assert [query.since for query in questions] == [since, datetime(2026, 11, 27, 9, 59, 32, 250000, tzinfo=UTC)]
