"""Every string counts as a text in any position: in published fields and in unknown ones."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic.types as of_anthropic
import anthropic.types.message_create_params as anthropic_params
import openai.types as of_openai
import openai.types.chat as chat
import openai.types.chat.completion_create_params as chat_params
import openai.types.completion_create_params as completion_params
import openai.types.responses as responses
import openai.types.responses.response_create_params as response_params
import pytest
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from hypothesis import given
from hypothesis import strategies as st
from router import sse, texts
from router.guard import LATE_S, Guard, filtered
from router.guarded_chat import GuardedChat
from router.guarded_responses import GuardedResponses

sys.path.insert(0, str(Path(__file__).parent))
from vendor_types import MARKER, documents

WHOLE = {
    "chat completion, asked": chat_params.CompletionCreateParamsNonStreaming,
    "chat completion, answered": chat.ChatCompletion,
    "completion, asked": completion_params.CompletionCreateParamsNonStreaming,
    "completion, answered": of_openai.Completion,
    "response, asked": response_params.ResponseCreateParamsNonStreaming,
    "response, answered": responses.Response,
    "embedding, asked": of_openai.EmbeddingCreateParams,
    "message, asked": anthropic_params.MessageCreateParamsNonStreaming,
    "message, answered": of_anthropic.Message,
    "message, event": of_anthropic.RawMessageStreamEvent,
    "chat completion, event": chat.ChatCompletionChunk,
    "response, event": responses.ResponseStreamEvent,
}


@pytest.mark.parametrize("name", WHOLE)
def test_each_text_that_the_vendors_know_is_found_and_can_be_replaced(name: str) -> None:
    found = documents(WHOLE[name])
    assert len(found) > 3
    missed: list[str] = []
    for where, document in found:
        copied = json.loads(json.dumps(document))
        for place in list(texts.places(copied)):
            if MARKER in place.text:
                place.put(place.text.replace(MARKER, "<X>"))
        if MARKER in json.dumps(copied):
            missed.append(where)
    assert missed == []


class Stub:
    """Guardrails that redacts one text and holds nothing back."""

    async def Check(self, request: Any, **_: Any) -> Any:
        changed = [text.replace(MARKER, "<X>") for text in request.texts]
        action = messages.ACTION_REDACT if changed != list(request.texts) else messages.ACTION_ALLOW
        return messages.CheckResponse(action=action, texts=changed)

    def Stream(self, **_: Any) -> Any:
        written: list[Any] = []

        async def write(request: Any) -> None:
            written.append(request)

        async def read() -> Any:
            text = written[-1].text.replace(MARKER, "<X>")
            return messages.StreamResponse(action=messages.ACTION_ALLOW, text=text)

        return SimpleNamespace(write=write, read=read, cancel=lambda: None)


class Outward:
    """Double of the exchange for a guarded stream."""

    guard_required = True
    guard_unchecked = ""
    tenant = traceparent = trace_id = request_id = b""
    verdicts = None

    def __init__(self) -> None:
        self.sent = b""
        self.ended = asyncio.Event()
        self.core = self

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    def guarded(self, data: bytes) -> None:
        self.sent += data

    def guarded_end(self, _: int) -> None:
        self.ended.set()

    guarded_stop = guarded_end

    def guarded_break(self, error: Exception) -> None:
        raise AssertionError(error)

    def log_fault(self, error: Exception) -> None:
        raise AssertionError from error


def guarded(kind: Any, *events: Any) -> bytes:
    """Forwarded part of a stream."""

    async def run() -> bytes:
        outward = Outward()
        guard = Guard.__new__(Guard)
        guard.late_s = LATE_S
        guard._client = SimpleNamespace(stub=Stub())  # type: ignore[assignment]
        stream = kind(guard, outward)
        stream.end(b"".join(sse.event(json.dumps(event).encode()) for event in events), 200)
        await asyncio.wait_for(outward.ended.wait(), 5)
        return outward.sent

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "stream"), [(chat.ChatCompletionChunk, GuardedChat), (of_openai.Completion, GuardedChat),
                         (responses.ResponseStreamEvent, GuardedResponses)]
)  # fmt: skip
def test_each_text_that_the_vendors_know_in_a_stream_is_replaced(kind: Any, stream: Any) -> None:
    missed: list[str] = []
    for where, document in documents(kind):
        event = json.loads(json.dumps(document))
        for choice in event.get("choices") or ():
            if isinstance(choice, dict):
                choice.setdefault("index", 0)
        if MARKER in guarded(stream, event).decode():
            missed.append(where)
    assert missed == []


FIELDS = ["reasoning_content", "reasoning", "refusal", "something_new", "content"]


@pytest.mark.parametrize("field", FIELDS)
def test_texts_beside_the_content_are_replaced_in_streams(field: str) -> None:
    event = {"choices": [{"index": 0, "delta": {field: MARKER}}]}
    sent = guarded(GuardedChat, event).decode()
    assert MARKER not in sent and "<X>" in sent


def test_calls_of_tools_come_in_one_piece_and_are_read_as_json() -> None:
    def delta(index: int, text: str, **more: Any) -> Any:
        call = {"index": index, "function": {"arguments": text, **more}}
        return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}

    escaped = MARKER.replace("@", "\\u0040")
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    pieces = [delta(0, "", name="f"), delta(1, '{"b"', name="g"), delta(0, f'{{"a":"{escaped[:9]}'), delta(1, ":1}")]
    sent = guarded(GuardedChat, *pieces, delta(0, f'{escaped[9:]}"}}'), finish).decode()
    events = [json.loads(line[6:]) for line in sent.split("\n\n") if line]
    calls = [c for e in events for c in e["choices"][0]["delta"].get("tool_calls", [])]
    assert [(c["index"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls] == [
        (0, "f", {"a": "<X>"}),
        (1, "g", {"b": 1}),
    ]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_probabilities_leave_a_stream_with_the_text_that_they_repeat() -> None:
    def event(text: str, *tokens: str) -> Any:
        said = {"content": [{"token": token, "logprob": -0.1, "top_logprobs": []} for token in tokens]}
        return {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": said}]}

    clean = json.loads(guarded(GuardedChat, event("hello you", "hello", " you"))[6:])
    assert clean["choices"][0]["logprobs"]["content"][1]["token"] == " you"
    for bad in (event(MARKER, "mail ", "ann@", "example.com", " now"), event("hello", "ann@", "example.com")):
        assert "example.com" not in guarded(GuardedChat, bad).decode()


def redacted(content: Any) -> Any:
    """Replace the marker, as Guardrails does."""
    for place in list(texts.places(content)):
        if MARKER in place.text:
            place.put(place.text.replace(MARKER, "<X>"))
    return content


@given(
    st.recursive(
        st.just(MARKER) | st.integers() | st.none() | st.booleans() | st.floats(allow_nan=False),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.text(min_size=1, max_size=8) | st.sampled_from([MARKER, *sorted(texts.STRUCTURE)]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_no_string_of_any_document_is_passed_over(document: Any) -> None:
    assert MARKER not in json.dumps(redacted({"messages": document, "extra": document}))


@pytest.mark.parametrize("field", sorted(texts.HARMLESS) + sorted(texts.OPAQUE))
def test_a_harmless_field_is_harmless_only_in_its_form(field: str) -> None:
    assert MARKER not in json.dumps(redacted({"messages": [{field: MARKER, "content": "x"}]}))


@pytest.mark.parametrize("field", ["role", "type", "finish_reason", "name", "description", "content", "stop", "title"])
@pytest.mark.parametrize("key", ["AKIA" + "IOSFODNN7EXAMPLE", "ghp" + "_" + "a1b2c3d4e5f6" * 3])
def test_a_key_is_no_word_of_the_api(field: str, key: str) -> None:
    content = {"messages": [{"role": "user", field: key}]}
    assert key in [place.text for place in texts.places(content)]


def test_usual_requests_have_exactly_their_visible_texts() -> None:
    image = "data:image/png;base64," + "iVBO" * 40
    content = {
        "model": "meta/llama-3.1", "user": "ann", "stream": True, "seed": 12345678, "tool_choice": "auto",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What?"},
                                         {"type": "image_url", "image_url": {"url": image}}]},
            {"role": "assistant", "tool_calls": [{"id": "call_Ab1", "type": "function",
                                                  "function": {"name": "add", "arguments": '{"a": 1, "b": "two"}'}}]},
            {"role": "tool", "tool_call_id": "call_Ab1", "content": "3"},
        ],
    }  # fmt: skip
    assert [place.text for place in texts.places(content)] == ["Be brief.", "What?", "add", "two", "3"]


def test_escapes_numbers_and_names_that_stand_twice_are_read_in_arguments() -> None:
    def arguments(text: str) -> Any:
        call = {"type": "function", "function": {"name": "f", "arguments": text}}
        return {"messages": [{"role": "assistant", "tool_calls": [call]}]}

    escaped = arguments(json.dumps({"to": MARKER}).replace("@", "\\u0040"))
    assert json.loads(redacted(escaped)["messages"][0]["tool_calls"][0]["function"]["arguments"]) == {"to": "<X>"}
    twice = arguments(f'{{"to": "{MARKER}", "to": "x"}}')
    assert MARKER not in json.dumps(redacted(twice))
    number = arguments('{"card": 4111111111111111}')
    (place,) = [p for p in texts.places(number) if "4111" in p.text]
    place.put("<CREDIT_CARD>")
    assert json.loads(number["messages"][0]["tool_calls"][0]["function"]["arguments"]) == {"card": "<CREDIT_CARD>"}


def test_the_text_of_a_file_in_base64_is_read() -> None:
    encoded = base64.b64encode(MARKER.encode()).decode()
    part = {"type": "file", "file": {"filename": "a.txt", "file_data": f"data:text/plain;base64,{encoded}"}}
    content = redacted({"messages": [{"role": "user", "content": [part]}]})
    data = content["messages"][0]["content"][0]["file"]["file_data"]
    assert base64.b64decode(data.partition(",")[2]).decode() == "<X>"


def test_tokens_in_place_of_a_text_are_named() -> None:
    assert texts.unreadable({"prompt": [1, 2]}) == "prompt"
    assert texts.unreadable({"input": [[1, 2], [3]]}) == "input"
    assert texts.unreadable({"input": ["a"], "prompt": "b"}) is None


def test_of_a_blocked_answer_no_text_is_left() -> None:
    for kind in (chat.ChatCompletion, of_openai.Completion, responses.Response):
        for where, document in documents(kind):
            if where not in (".id", ".model", ".service_tier"):
                assert MARKER not in json.dumps(filtered(document)), where
