"""The usage event of a request tells its way to the answer: attempts, choice, verdicts, cache, key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kit import events
from kit.directory import Grant
from kit.spill import Spill
from router.metering import TOPIC, Metering

from .conftest import Running, Target, until
from .test_guardrails import KEY, Service

Make = Callable[..., tuple[Running, Callable[[], dict[str, Any]]]]


@pytest.fixture
def metered(running: Callable[..., Running], tmp_path: Path) -> Make:
    """Function that starts a Router. Returns it, and a function that waits for the only usage event's data."""

    def make(among: list[Target], **more: Any) -> tuple[Running, Callable[[], dict[str, Any]]]:
        router = running(among, **more)
        metering = Metering({"bootstrap.servers": "127.0.0.1:9"}, Spill(tmp_path / "spill", 2**20))
        router.core.metering = metering

        def recorded() -> dict[str, Any]:
            until(lambda: metering._waiting)
            (found,) = metering._waiting
            event = json.loads(found[2])
            jsonschema.validate(event, events.schema(TOPIC))
            assert event["subject"] == events.request(event["data"]["request"])
            return event["data"]

        return router, recorded

    return make


def _steps(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["target"], one["outcome"]) for one in found["attempts"]]


def test_a_usual_request_adds_no_attempts(targets: Callable[[int], list[Target]], metered: Make) -> None:
    router, recorded = metered(targets(1))
    assert router.ask().status_code == 200
    found = recorded()
    assert found["target"] == "a"
    new = {"scopes", "route", "choice", "attempts", "cache", "guard", "prompt", "first_token_ms", "key", "client"}
    assert not found.keys() & new


def test_a_retry_tells_why_the_first_target_has_failed(targets: Callable[[int], list[Target]], metered: Make) -> None:
    one, other = targets(2)
    one.status = 500
    router, recorded = metered([one, other], strategy="canary", canary={"target": "a", "steps": [1.0]})
    assert router.ask().status_code == 200
    found = recorded()
    assert _steps(found) == [("a", "failed"), ("b", "answered")]
    assert found["attempts"][0]["reason"] == "HTTP 500"
    assert found["attempts"][0]["begun_ms"] <= found["attempts"][1]["begun_ms"]
    assert found["choice"]["strategy"] == "canary"
    assert {one["target"]: one["score"] for one in found["choice"]["targets"]} == {"a": 1.0, "b": 0.0}


def test_a_hedged_request_tells_which_target_was_overtaken(
    targets: Callable[[int], list[Target]], metered: Make
) -> None:
    slow, fast = targets(2)
    slow.delay_s = 3
    router, recorded = metered(
        [slow, fast], strategy="canary", canary={"target": "a", "steps": [1.0]}, hedge_seconds=0.05
    )
    assert router.ask().status_code == 200
    found = recorded()
    assert _steps(found) == [("a", "overtaken"), ("b", "answered")]
    assert [one.get("hedge", False) for one in found["attempts"]] == [False, True]
    assert found["attempts"][1]["begun_ms"] >= 50


def test_a_stream_that_broke_off_tells_who_continued_it(targets: Callable[[int], list[Target]], metered: Make) -> None:
    one, other = targets(2)
    one.break_after = 2
    router, recorded = metered([one, other], strategy="canary", canary={"target": "a", "steps": [1.0]})
    assert router.stream()[-1] == "[DONE]"
    found = recorded()
    assert _steps(found) == [("a", "interrupted"), ("b", "answered")]
    assert found["attempts"][1]["continues"] is True
    assert 0 < found["first_token_ms"] <= found["duration_ms"]


def test_a_fallback_is_named(targets: Callable[[int], list[Target]], metered: Make) -> None:
    one, other = targets(2)
    one.status = 500
    router, recorded = metered([one], attempts=2, fallbacks=[])
    table = router.core.table.model_dump(mode="json")
    table["routes"][0]["fallbacks"] = ["spare"]
    table["routes"].append({"model": "spare", "targets": [{"name": "b", "upstream": other.url}]})
    router.core.reload(type(router.core.table).model_validate(table))
    assert router.ask().status_code == 200
    found = recorded()
    assert (found["model"], found["route"], found["target"]) == ("m", "spare", "b")
    assert [one["model"] for one in found["attempts"]] == ["m", "spare"]


def test_a_client_that_leaves_is_told_from_a_failure(targets: Callable[[int], list[Target]], metered: Make) -> None:
    (target,) = targets(1)
    target.words = ["word"] * 2000
    router, recorded = metered([target])
    with router.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]},
    ) as answer:
        next(answer.iter_raw())
    found = recorded()
    assert (found["status"], _steps(found)) == (499, [("a", "stopped")])


def test_the_time_limit_of_a_request_is_told(targets: Callable[[int], list[Target]], metered: Make) -> None:
    (target,) = targets(1)
    target.delay_s = 3
    router, recorded = metered([target], timeout_seconds=0.2)
    assert router.ask().status_code == 504
    found = recorded()
    assert (found["status"], _steps(found)) == (504, [("a", "timed-out")])


@pytest.mark.parametrize(("header", "kind"), [({}, "equal"), ({"idempotency-key": "k"}, "repeated")])
def test_a_kept_answer_tells_why_it_was_used(
    targets: Callable[[int], list[Target]], metered: Make, header: dict[str, str], kind: str
) -> None:
    router, recorded = metered(targets(1), cache={"any_temperature": True})
    metering: Any = router.core.metering
    assert router.ask(headers=header).status_code == 200
    until(lambda: metering._waiting)
    metering._waiting.clear()
    assert router.ask(headers=header).headers["x-cache"] == "hit"
    found = recorded()
    assert (found["cached"], found["cache"], found["input_tokens"]) == (True, kind, 0)


def test_the_key_is_named_by_its_id_and_never_by_its_secret(
    targets: Callable[[int], list[Target]], metered: Make
) -> None:
    router, recorded = metered(targets(1), tenants=[{"id": "acme"}])
    digest = hashlib.sha256(b"cf-secret-value").digest()
    router.core.accounts.grant(digest, Grant("acme", "key-1", user="ann", scopes=("inference", "billing")))
    assert router.ask(headers={"authorization": "Bearer cf-secret-value"}).status_code == 200
    found = recorded()
    assert (found["tenant"], found["key"], found["scopes"]) == ("acme", "key-1", ["inference", "billing"])
    assert "secret-value" not in json.dumps(found) and digest.hex() not in json.dumps(found)


def test_a_program_that_acts_for_a_user_is_named_and_the_user_is_charged(
    targets: Callable[[int], list[Target]], metered: Make
) -> None:
    router, recorded = metered(targets(1), tenants=[{"id": "acme"}])
    grant = Grant("acme", "key-1", user="ann", scopes=("inference",), client="reports")
    router.core.accounts.grant(hashlib.sha256(b"cf-of-reports").digest(), grant)
    assert router.ask(headers={"authorization": "Bearer cf-of-reports"}).status_code == 200
    found = recorded()
    assert (found["tenant"], found["key"], found["client"]) == ("acme", "key-1", "reports")


@pytest.fixture
def guardrails() -> Iterator[Service]:
    """A real Guardrails service."""
    made = Service()
    yield made
    made.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_verdicts_are_told_by_direction_without_texts(
    targets: Callable[[int], list[Target]],
    metered: Make,
    guardrails: Service,
    stream: bool,
) -> None:
    from router.guard import Guard

    (target,) = targets(1)
    target.words = ["write", "to", "ann@example.com"]
    router, recorded = metered([target], guardrails="on")
    router.core.guard = Guard(guardrails.target)
    answer = router.ask(f"use {KEY}", stream=stream)
    assert answer.status_code == 200 and "<EMAIL>" in answer.text
    found = recorded()
    assert found["guard"] == {"input": "redact", "output": "redact"}
    assert KEY not in json.dumps(found) and "ann@example.com" not in json.dumps(found)
