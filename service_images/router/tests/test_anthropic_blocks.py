"""Anthropic's blocks, parameters and streams: each is translated, or refused by name."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from typing import Any

import anthropic.types as published
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from kit.errors import ApiError
from router import anthropic as dialect

HELLO = [{"role": "user", "content": "hi"}]
PNG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
IMAGE = {"type": "image", "source": PNG}
USE = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
TOOL = {"name": "add", "input_schema": {"type": "object"}}


def converted(**body: Any) -> dict[str, Any]:
    return json.loads(dialect.request(json.dumps({"model": "m", "max_tokens": 9, "messages": HELLO, **body}).encode()))


def refused(**body: Any) -> str:
    with pytest.raises(ApiError) as error:
        converted(**body)
    assert error.value.status == 400 and error.value.code
    return error.value.message


def user(*blocks: Any) -> Any:
    return [{"role": "user", "content": list(blocks)}]


def after_a_call(*blocks: Any) -> Any:
    return [*HELLO, {"role": "assistant", "content": [USE]}, *user(*blocks)]


def test_a_tool_result_with_an_image_is_forwarded() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "seen"}, IMAGE]}
    said = converted(messages=after_a_call(result))["messages"]
    assert said[2] == {"role": "tool", "tool_call_id": "t1", "content": "seen"}
    assert said[3]["role"] == "user" and said[3]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,AAAA"},
    }


def test_a_failed_result_is_reported() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "no such file", "is_error": True}
    assert converted(messages=after_a_call(result))["messages"][2]["content"] == "Error: no such file"


def test_thoughts_in_the_history_are_accepted() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "abc"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "yes"},
        USE,
    ]
    (_, said) = converted(messages=[*HELLO, {"role": "assistant", "content": blocks}])["messages"]
    assert said["reasoning_content"] == "hm" and said["content"] == "yes"
    assert said["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}


def test_documents_and_passages_are_read() -> None:
    text = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
    blocks = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "B"}, IMAGE]}}
    found = {"type": "search_result", "source": "s", "title": "S", "content": [{"type": "text", "text": "P"}]}
    pdf = {"type": "document", "title": "a.pdf", "source": {**PNG, "media_type": "application/pdf"}}
    (said,) = converted(messages=user(text, blocks, found, pdf))["messages"]
    assert "".join(part.get("text", "") for part in said["content"]) == "T\n\nDBS\ns\n\nP"
    assert said["content"][-1]["file"] == {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}


def _arms(union: Any) -> list[Any]:
    return [one for one in typing.get_args(union) if typing_extensions.is_typeddict(one)]


def _type_of(block: Any) -> str:
    hint = typing_extensions.get_type_hints(block)["type"]
    return next(one for one in typing.get_args(hint) if isinstance(one, str))


@pytest.mark.parametrize("kind", sorted({_type_of(block) for block in _arms(published.ContentBlockParam)}))
def test_each_published_block_is_translated_or_refused_by_its_name(kind: str) -> None:
    examples: dict[str, Any] = {
        "text": {"text": "x"},
        "image": {"source": PNG},
        "document": {"source": {"type": "text", "media_type": "text/plain", "data": "x"}},
        "search_result": {"source": "s", "title": "t", "content": []},
        "thinking": {"thinking": "x", "signature": ""},
        "redacted_thinking": {"data": "x"},
        "tool_use": USE,
        "tool_result": {"tool_use_id": "t1"},
    }
    role = "assistant" if kind in ("thinking", "redacted_thinking", "tool_use") else "user"
    messages = [{"role": role, "content": [{"type": kind, **examples.get(kind, {})}]}]
    if kind in examples:
        assert converted(messages=messages)["messages"]
    else:
        assert f'messages.0.content.0.type: "{kind}" is not supported' in refused(messages=messages)


@pytest.mark.parametrize("tool", _arms(published.ToolUnionParam))
def test_a_tool_that_runs_on_a_server_is_refused_by_its_type(tool: Any) -> None:
    if tool is not published.ToolParam:
        name = _type_of(tool)
        assert "tools.0.type" in refused(tools=[{"type": name, "name": "x"}])


FIELDS = sorted(typing_extensions.get_type_hints(published.message_create_params.MessageCreateParamsNonStreaming))
GIVEN: dict[str, tuple[Any, str]] = {
    "cache_control": ({"type": "ephemeral"}, "messages"),
    "max_tokens": (7, "max_tokens"),
    "messages": (HELLO, "messages"),
    "metadata": ({"user_id": "u"}, "user"),
    "model": ("other", "model"),
    "output_config": ({"format": {"type": "json_schema", "schema": {"type": "object"}}}, "response_format"),
    "service_tier": ("auto", "messages"),
    "speed": ("standard", "messages"),
    "stop_sequences": (["END"], "stop"),
    "stream": (True, "stream"),
    "system": ("Be brief.", "messages"),
    "temperature": (0.5, "temperature"),
    "thinking": ({"type": "enabled", "budget_tokens": 2048}, "reasoning_effort"),
    "tool_choice": ({"type": "any"}, "tool_choice"),
    "tools": ([TOOL], "tools"),
    "top_k": (4, "top_k"),
    "top_p": (0.5, "top_p"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_each_published_parameter_is_passed_on_or_refused_by_its_name(field: str) -> None:
    if field in GIVEN:
        value, there = GIVEN[field]
        assert there in converted(**{field: value})
    else:
        assert f"{field}: is not supported here" in refused(**{field: "x"})


@pytest.mark.parametrize("field", [field for field in GIVEN if field not in ("max_tokens", "messages", "model")])
def test_null_is_as_absent(field: str) -> None:
    assert converted(**{field: None}) == converted()


def test_all_mistakes_are_named_at_once() -> None:
    message = refused(temperature=9, mcp_servers=[], messages=user({"type": "server_tool_use"}, {"type": "text"}))
    for part in ("temperature:", "mcp_servers: is not supported here", "content.0.type", "content.1.text: Field"):
        assert part in message


def test_parallel_tool_calls_can_be_disabled() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert converted(tools=[TOOL], tool_choice=choice)["parallel_tool_calls"] is False


def test_a_begun_answer_is_gone_on_with() -> None:
    sent = converted(messages=[*HELLO, {"role": "assistant", "content": "I am"}])
    assert sent["continue_final_message"] is True and sent["add_generation_prompt"] is False


def answered(message: dict[str, Any], **choice: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    body = {"choices": [{"index": 0, "message": message, **choice}], "usage": usage}
    return json.loads(dialect.answer(json.dumps(body).encode(), "1"))


def test_the_matched_stop_sequence_is_reported() -> None:
    message = answered({"content": "x"}, finish_reason="stop", stop_reason="END")
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    message = answered({"content": "x"}, finish_reason="stop", stop_reason=151645)  # a special token of the model
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)


def test_cached_answers_are_counted_separately() -> None:
    usage = answered({"content": "x"}, finish_reason="stop")["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (2, 3, 2)


def test_arguments_that_are_none_are_the_upstreams_fault() -> None:
    call = {"id": "t", "function": {"name": "f", "arguments": '{"a": '}}
    with pytest.raises(ApiError, match="not a JSON object"):
        answered({"tool_calls": [call]}, finish_reason="tool_calls")
    assert answered({"tool_calls": [call]}, finish_reason="length")["stop_reason"] == "max_tokens"


# --- round trips ------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
uses = st.lists(st.tuples(words, st.dictionaries(words, json_values, max_size=3)), max_size=3)


@st.composite
def turns(draw: Callable[..., Any]) -> list[dict[str, Any]]:
    """Blocks of an answer, in the order of models."""
    blocks: list[dict[str, Any]] = []
    if thought := draw(st.none() | words):
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    if text := draw(st.none() | words):
        blocks.append({"type": "text", "text": text})
    for number, (name, given_input) in enumerate(draw(uses)):
        blocks.append({"type": "tool_use", "id": f"t{number}", "name": name, "input": given_input})
    return blocks


@given(turns())
def test_an_answer_that_is_sent_back_is_the_answer_that_was_given(blocks: list[dict[str, Any]]) -> None:
    said = converted(messages=[*HELLO, {"role": "assistant", "content": blocks}])["messages"][1]
    assert answered(said, finish_reason="stop")["content"] == blocks


def events_of(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in data.decode().split("\n") if line.startswith("data: ")]


def assembled(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks that a client assembles from a stream, with checks of the protocol."""
    blocks: list[dict[str, Any]] = []
    given_json: list[str] = []
    open_block: int | None = None
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert open_block is None and event["index"] == len(blocks)
            open_block = event["index"]
            blocks.append(dict(event["content_block"]))
            given_json.append("")
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_block
            open_block = None
        else:
            assert event["index"] == open_block
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                given_json[-1] += delta["partial_json"]
            else:
                field = "thinking" if delta["type"] == "thinking_delta" else "text"
                blocks[-1][field] += delta[field]
    for block, text in zip(blocks, given_json, strict=True):
        if block["type"] == "tool_use":
            block["input"] = json.loads(text or "{}")
    return blocks


def _order(block: dict[str, Any]) -> str:
    return {"thinking": "", "text": "a"}.get(block["type"], block.get("id", ""))


def chunk(delta: Any, **choice: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, **choice}]}).encode() + b"\n\n"


def calls_in_pieces(blocks: list[dict[str, Any]], draw: Any) -> list[Any]:
    """Deltas of all calls: ordered within each call, interleaved between calls."""
    queues: list[list[Any]] = []
    for number, block in enumerate(blocks):
        text = json.dumps(block["input"])
        cut = draw(st.integers(0, len(text)))
        first = {"index": number, "id": block["id"], "function": {"name": block["name"], "arguments": text[:cut]}}
        queues.append([first, {"index": number, "function": {"arguments": text[cut:]}}])
    mixed: list[Any] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        mixed.append({"tool_calls": [queue.pop(0)]})
    return mixed


@given(turns(), st.data(), st.booleans())
def test_a_stream_contains_the_same_text_as_the_whole_answer(blocks: Any, data: Any, done: bool) -> None:
    deltas: list[Any] = [{"role": "assistant", "content": ""}]
    for block in blocks:
        if block["type"] != "tool_use":
            field = "reasoning_content" if block["type"] == "thinking" else "content"
            text = block["text" if field == "content" else "thinking"]
            deltas += [{field: text[:1]}, {field: text[1:]}]
    deltas += calls_in_pieces([block for block in blocks if block["type"] == "tool_use"], data.draw)
    stream = dialect.Stream("1", "m")
    sent = b"".join(map(chunk, deltas)) + chunk({}, finish_reason="stop") + (b"data: [DONE]\n\n" if done else b"")
    cut = data.draw(st.integers(0, len(sent)))
    events = events_of(stream.feed(sent[:cut]) + stream.feed(sent[cut:]) + stream.end())
    assert events[0]["type"] == "message_start" and events[-1]["type"] == "message_stop"
    # Calls have the order of their first pieces.
    assert sorted(assembled(events), key=_order) == blocks


def test_interleaved_tool_calls_become_separate_blocks() -> None:
    def piece(index: int, text: str, **more: Any) -> Any:
        return {"tool_calls": [{"index": index, "function": {"arguments": text, **more}, "id": f"t{index}"}]}

    deltas = [piece(0, '{"a"', name="f"), piece(1, '{"b"', name="g"), piece(0, ":1}"), piece(1, ":2}")]
    stream = dialect.Stream("1", "m")
    blocks = assembled(events_of(stream.feed(b"".join(map(chunk, deltas)) + b"data: [DONE]\n\n")))
    assert [(b["id"], b["name"], b["input"]) for b in blocks] == [("t0", "f", {"a": 1}), ("t1", "g", {"b": 2})]


@pytest.mark.parametrize(("sent", "last"), [
    (chunk({"content": "x"}), "error"),
    (chunk({"content": "x"}) + chunk({}, finish_reason="stop"), "message_stop"),
    (b"", "error"),
    (b"data: no json\n\n", "error"),
])  # fmt: skip
def test_a_stream_never_just_ends(sent: bytes, last: str) -> None:
    stream = dialect.Stream("1", "m")
    assert events_of(stream.feed(sent) + stream.end())[-1]["type"] == last


def test_a_streamed_stop_sequence_is_reported() -> None:
    sent = chunk({"content": "x"}) + chunk({}, finish_reason="stop", stop_reason="END") + b"data: [DONE]\n\n"
    delta = events_of(dialect.Stream("1", "m").feed(sent))[-2]["delta"]
    assert delta == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_an_answer_names_its_request(targets: Any, running: Any) -> None:
    router = running(targets(1))
    body = {"model": "m", "max_tokens": 9, "messages": HELLO}
    for sent in (body, {**body, "stream": True}, {**body, "temperature": 9}):
        answer = router.client.post("/v1/messages", json=sent)
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        if answer.status_code == 400:
            assert answer.json()["request_id"] == answer.headers["request-id"]


def test_a_stream_without_an_end_gets_one(targets: Any, running: Any) -> None:
    (target,) = targets(1)
    target.done = False
    router = running([target])
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, "stream": True}
    events = events_of(router.client.post("/v1/messages", json=body).content)
    assert [event["type"] for event in events][-2:] == ["message_delta", "message_stop"]


def test_tokens_are_counted_by_the_model_server_or_estimated(targets: Any, running: Any) -> None:
    (target,) = targets(1)
    router = running([target])
    asked = {"model": "m", "messages": HELLO, "tools": [TOOL]}
    target.tokens = 17
    assert router.client.post("/v1/messages/count_tokens", json=asked).json() == {"input_tokens": 17}
    target.tokens = None
    assert router.client.post("/v1/messages/count_tokens", json=asked).json()["input_tokens"] > 0
    for wrong, status in (({**asked, "model": "nobody"}, 404), ({**asked, "messages": []}, 400)):
        answer = router.client.post("/v1/messages/count_tokens", json=wrong, headers={"x-request-id": "r1"})
        assert answer.status_code == status and answer.json()["type"] == "error"
        assert answer.headers["request-id"] == "r1"
