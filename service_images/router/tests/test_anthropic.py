"""Anthropic's Messages API with its own client, over targets with OpenAI's API."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.errors import ApiError

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from router import anthropic as dialect  # noqa: E402

Targets = Callable[[int], list[Any]]
Running = Callable[..., Any]
HELLO: Any = [{"role": "user", "content": "hello"}]


def client(router: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=router.url, api_key="cf-any", max_retries=0)


def test_a_message_is_answered(targets: Targets, running: Running) -> None:
    answer = client(running(targets(1))).messages.create(model="m", max_tokens=16, messages=HELLO)
    assert answer.content[0].text == "one two three"  # type: ignore[union-attr]
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 3)


def test_a_streamed_message_comes_in_pieces(targets: Targets, running: Running) -> None:
    with client(running(targets(1))).messages.stream(model="m", max_tokens=16, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert pieces == ["one ", "two ", "three "]
    assert final.usage.output_tokens == 3
    assert final.stop_reason == "end_turn"


def test_an_unknown_model_is_its_not_found_error(targets: Targets, running: Running) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        client(running(targets(1))).messages.create(model="other", max_tokens=16, messages=HELLO)


def test_a_bad_request_is_its_own_error(targets: Targets, running: Running) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        client(running(targets(1))).messages.create(model="m", max_tokens=16, messages=[])


def test_a_refusal_of_the_target_is_passed_on(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.status = 400
    with pytest.raises(anthropic.BadRequestError, match="no"):
        client(running([target])).messages.create(model="m", max_tokens=16, messages=HELLO)


def test_a_stream_that_breaks_off_ends_with_an_error(targets: Targets, running: Running) -> None:
    (target,) = targets(1)
    target.break_after = 0
    with (
        pytest.raises(anthropic.APIStatusError),
        client(running([target])).messages.stream(model="m", max_tokens=16, messages=HELLO) as stream,
    ):
        list(stream.text_stream)


def converted(**body: Any) -> dict[str, Any]:
    return json.loads(dialect.request(json.dumps({"model": "m", "max_tokens": 9, "messages": HELLO, **body}).encode()))


def test_the_system_prompt_is_the_first_message() -> None:
    for system in ("Be brief.", [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]):
        assert converted(system=system)["messages"][0] == {"role": "system", "content": "Be brief."}


def test_an_image_becomes_a_data_url() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    turn = {"role": "user", "content": [{"type": "text", "text": "what?"}, image]}
    parts = converted(messages=[turn])["messages"][0]["content"]
    assert parts[1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_tools_and_their_results_are_translated() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "2"}
    sent = converted(
        messages=[*HELLO, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}],
        tools=[{"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}],
        tool_choice={"type": "tool", "name": "add"},
    )
    assert sent["messages"][1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}
    assert sent["messages"][2] == {"role": "tool", "tool_call_id": "t1", "content": "2"}
    assert sent["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert sent["tool_choice"]["function"]["name"] == "add"


def test_a_tool_call_comes_back() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    completion = {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    message = json.loads(dialect.answer(json.dumps(completion).encode(), "1"))
    assert message["content"] == [{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]
    assert message["stop_reason"] == "tool_use"


def chunk(**delta: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


def test_a_streamed_tool_call_is_a_block_of_its_own() -> None:
    call = {"index": 0, "id": "t1", "function": {"name": "add", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    sent = chunk(content="Let me see.") + chunk(tool_calls=[call]) + chunk(tool_calls=[more]) + b"data: [DONE]\n\n"
    out = dialect.Stream("1", "m").feed(sent).decode()
    names = [line.removeprefix("event: ") for line in out.splitlines() if line.startswith("event: ")]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert names == ["message_start", *block, *block, "message_delta", "message_stop"]
    assert '"partial_json":"{\\"a\\": 1}"' in out


@given(st.lists(st.integers(1, 60), max_size=30))
def test_a_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    whole = chunk(role="assistant", content="") + chunk(content="héllo") + chunk(content=" world") + b"data: [DONE]\n\n"
    stream, out, rest = dialect.Stream("1", "m"), b"", whole
    for cut in cuts:
        out, rest = out + stream.feed(rest[:cut]), rest[cut:]
    assert out + stream.feed(rest) == dialect.Stream("1", "m").feed(whole)


@given(st.binary(max_size=300))
def test_bad_bytes_are_a_bad_request(body: bytes) -> None:
    with pytest.raises(ApiError) as error:
        dialect.request(body)
    assert error.value.status == 400


@given(st.binary(max_size=300))
def test_an_invalid_answer_is_an_upstream_error(body: bytes) -> None:
    with pytest.raises(ApiError) as error:
        dialect.answer(body, "1")
    assert error.value.status == 502
    dialect.Stream("1", "m").feed(b"data: " + body + b"\n\n")
