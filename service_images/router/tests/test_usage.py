"""Every request that a model has worked for is metered, however it ends; budgets are settled with the same tokens."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.spill import Spill
from router import counting, usage
from router.metering import Metering

from .conftest import until

Targets = Callable[[int], list[Any]]
Running = Callable[..., Any]
WORDS = [f"word{number}" for number in range(400)]


class RecordedEvents:
    """Replaces Kafka's producer, and records its events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def produce(self, topic: str, content: bytes, key: bytes, headers: Any) -> None:
        self.events.append(json.loads(content))

    def poll(self, _: float) -> None:
        pass


@pytest.fixture
def metered(running: Running, tmp_path: Path) -> Callable[..., tuple[Any, RecordedEvents]]:
    """Function that starts a Router with a tenant that has a budget, and records its usage events."""

    def make(among: list[Any], **route: Any) -> tuple[Any, RecordedEvents]:
        router = running(among, tenants=[{"id": "t", "budget_usd": 1e9, "clients": ["c"]}], **route)
        router.client.headers["x-client-id"] = "c"
        recorded = RecordedEvents()
        router.core.metering = Metering({"bootstrap.servers": "127.0.0.1:9"}, Spill(tmp_path / "spill", 2**20))
        router.core.metering._producer = recorded
        return router, recorded

    return make


def the_event(router: Any, recorded: RecordedEvents) -> dict[str, Any]:
    """The only recorded usage event."""

    def sent() -> bool:
        router.core.metering.hand_on()
        return bool(recorded.events)

    until(sent)
    assert len(recorded.events) == 1
    return recorded.events[0]["data"]


def account(router: Any) -> Any:
    (found,) = [account for account in router.core.accounts.all() if account.id == "t"]
    return found


def test_a_stream_that_the_client_leaves_is_metered(targets: Targets, metered: Any) -> None:
    (target,) = targets(1)
    target.words = WORDS
    router, recorded = metered([target])
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    seen = 0
    with router.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            seen += "word" in line
            if seen == 30:
                break
    data = the_event(router, recorded)
    assert 30 <= data["output_tokens"] < 400
    assert data["input_tokens"] > 0
    assert data["estimated"] is True
    assert data["status"] == 499
    assert account(router).spent == pytest.approx(data["output_tokens"])
    assert account(router).held == 0


def test_a_request_that_the_client_leaves_before_its_answer_is_metered(targets: Targets, metered: Any) -> None:
    (target,) = targets(1)
    target.delay_s = 30
    router, recorded = metered([target], timeout_seconds=60)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello " * 40}]}).encode()
    host, port = router.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nx-client-id: c\r\ncontent-length: %d\r\n\r\n"
        connection.sendall(head % len(body) + body)
        until(lambda: target.seen)
    data = the_event(router, recorded)
    assert (data["input_tokens"], data["output_tokens"], data["status"]) == (60, 0, 499)


def test_a_request_whose_time_is_up_is_metered(targets: Targets, metered: Any) -> None:
    (target,) = targets(1)
    target.delay_s = 30
    router, recorded = metered([target], timeout_seconds=0.2)
    assert router.ask().status_code == 504
    data = the_event(router, recorded)
    assert (data["status"], data["estimated"]) == (504, True)
    assert data["input_tokens"] > 0


def test_a_stream_that_the_upstream_breaks_off_is_metered(targets: Targets, metered: Any) -> None:
    (target,) = targets(1)
    target.break_after = 3
    target.words = ["one", "two", "three", "four"]
    router, recorded = metered([target], attempts=1)
    events = router.stream()
    assert "error" in events[-1]
    data = the_event(router, recorded)
    assert data["output_tokens"] == 4  # "one two three ", by its length
    assert data["estimated"] is True


def test_a_stream_continued_by_a_second_target_is_metered_as_a_whole(targets: Targets, metered: Any) -> None:
    breaking, good = targets(2)
    breaking.words = good.words = ["aaaa", "bbbb", "cccc", "dddd"]
    breaking.break_after = 2
    router, recorded = metered([breaking, good], strategy="weighted")
    data: dict[str, Any] = {}
    while not breaking.seen:
        router.stream()
        data = the_event(router, recorded)
        recorded.events.clear()
    # The second target reports four words, two of which it has received; the first target wrote two more.
    assert data["estimated"] is True
    assert data["output_tokens"] >= 4


def completion_events(**last: Any) -> list[bytes]:
    said = [{"object": "text_completion", "choices": [{"index": 0, "text": word}]} for word in ("one ", "two")]
    return [f"data: {json.dumps(event)}\n\n".encode() for event in (*said, last)] + [b"data: [DONE]\n\n"]


def test_the_router_requests_the_usage_of_streams(says: Any, metered: Any) -> None:
    upstream = says(completion_events(choices=[], usage={"prompt_tokens": 6, "completion_tokens": 2}))
    router, recorded = metered([upstream])
    body = {"model": "m", "prompt": "say", "stream": True}
    answer = router.client.post("/v1/completions", json=body)
    assert json.loads(upstream.seen[0])["stream_options"] == {"include_usage": True}
    assert "usage" not in answer.text, "the client has not asked for it"
    data = the_event(router, recorded)
    assert (data["input_tokens"], data["output_tokens"], data["estimated"]) == (6, 2, False)


def test_a_streamed_response_is_metered(targets: Targets, metered: Any) -> None:
    router, recorded = metered(targets(1))
    body = {"model": "m", "input": "say", "stream": True}
    assert "response.completed" in router.client.post("/v1/responses", json=body).text
    data = the_event(router, recorded)
    assert (data["input_tokens"], data["output_tokens"], data["operation"]) == (5, 3, "response")
    assert data["estimated"] is False


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"prompt_tokens": 11, "completion_tokens": None}, (11, 4)),
        ({"prompt_tokens": None, "completion_tokens": 2}, (1, 2)),
        ({"prompt_tokens": 11, "completion_tokens": None, "total_tokens": 13}, (11, 2)),
        ({"prompt_tokens": 11.0, "completion_tokens": 2.0}, (11, 2)),
        ({"prompt_tokens": "11", "completion_tokens": []}, (1, 4)),
        ({"prompt_tokens": -1, "completion_tokens": 10**30}, (1, 4)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (1, 4)),
        ({}, (1, 4)),
        (None, (1, 4)),
        ([], (1, 4)),
        ("none", (1, 4)),
        (True, (1, 4)),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_unreported_tokens_are_counted(
    says: Any, metered: Any, reported: Any, expected: tuple[int, int], streamed: bool
) -> None:
    message = {"role": "assistant", "content": "one two three"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": reported}
    chunk = {"choices": [{"index": 0, "delta": message}]}
    events = [chunk, {"choices": [], "usage": reported}]
    pieces = [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
    said = pieces if streamed else [msgspec.json.encode(whole)]
    kind = "text/event-stream" if streamed else "application/json"
    router, recorded = metered([says(said, headers={"content-type": kind})])
    router.ask("hey", stream=streamed)
    data = the_event(router, recorded)
    assert (data["input_tokens"], data["output_tokens"]) == expected
    assert account(router).spent == pytest.approx(data["output_tokens"])


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("asked", [False, True])
def test_a_whole_answer_to_a_stream_request_becomes_a_stream(says: Any, metered: Any, kind: str, asked: bool) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": "one two", "tool_calls": calls}
    usage_ = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    whole = {"id": "c", "object": "chat.completion", "model": "m", "usage": usage_}
    body = json.dumps({**whole, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    router, recorded = metered([says([body[:20].encode(), body[20:].encode()], headers={"content-type": kind})])
    options = {"stream_options": {"include_usage": True}} if asked else {}
    first, end, *usages, done = router.stream(**options)
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"]["content"] == "one two"
    assert first["choices"][0]["delta"]["tool_calls"][0]["index"] == 0
    assert end["choices"][0]["finish_reason"] == "tool_calls"
    assert [event["usage"] for event in usages] == ([usage_] if asked else [])
    assert done == "[DONE]"
    data = the_event(router, recorded)
    assert (data["input_tokens"], data["output_tokens"], data["estimated"]) == (7, 2, False)


def test_one_body_that_cannot_be_streamed_is_an_error_and_metered(says: Any, metered: Any) -> None:
    body = {"object": "response", "output": [], "usage": {"input_tokens": 7, "output_tokens": 2}}
    router, recorded = metered([says([json.dumps(body).encode()], headers={"content-type": "application/json"})])
    answer = router.client.post("/v1/responses", json={"model": "m", "input": "x", "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_answer")
    data = the_event(router, recorded)
    assert (data["input_tokens"], data["output_tokens"], data["status"]) == (7, 2, 502)


def test_a_refusal_of_the_upstream_costs_nothing(targets: Targets, metered: Any) -> None:
    (target,) = targets(1)
    target.status = 400
    router, recorded = metered([target])
    assert router.ask().status_code == 400
    target.status = 200
    router.ask()
    assert the_event(router, recorded)["status"] == 200


def test_answers_without_a_usage_are_counted_for_an_alert(says: Any, metered: Any) -> None:
    body = json.dumps({"choices": [{"message": {"content": "x"}}]}).encode()
    router, recorded = metered([says([body], headers={"content-type": "application/json"})])
    router.ask()
    the_event(router, recorded)
    assert router.core.measures.estimated.values["m", "says", "not_reported"] == 1


@pytest.mark.parametrize(
    ("asked", "answers"),
    [({"n": 100}, 100), ({"n": None}, 1), ({"best_of": 3, "n": 2}, 3), ({"prompt": ["a", "b"], "n": 2}, 4),
     ({"prompt": [1, 2, 3]}, 1), ({"prompt": [[1, 2], [3]]}, 2), ({"prompt": "a"}, 1)],
)  # fmt: skip
def test_as_much_is_set_aside_as_all_answers_may_take(asked: dict[str, Any], answers: int) -> None:
    ask = usage.ask(json.dumps({"model": "m", "max_tokens": 100, **asked}).encode())
    assert ask.output_tokens() == 100 * answers


def test_n_answers_that_a_budget_does_not_cover_are_refused(targets: Targets, running: Running) -> None:
    router = running(targets(1), tenants=[{"id": "t", "budget_usd": 300, "clients": ["c"]}])
    headers = {"x-client-id": "c"}
    assert router.ask(n=100, max_tokens=100, headers=headers).json()["error"]["code"] == "insufficient_quota"
    assert router.ask(n=2, max_tokens=100, headers=headers).status_code == 200


FIELDS = st.sampled_from(["usage", "choices", "delta", "text", "response", "messages", "prompt_tokens", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(FIELDS, x, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_answer_is_counted_without_an_error(content: Any) -> None:
    body = json.dumps(content).encode()
    reported = usage.of_answer(body)
    assert reported is None or all(part is None or part >= 0 for part in reported)
    assert counting.of_request(body) >= 0
    assert counting.of_answer(body) >= 0
    streamed = counting.Streamed()
    streamed.feed(b"data: " + body + b"\n\n")
    assert streamed.tokens >= 0
