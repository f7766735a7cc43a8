"""External models, OpenAI-compatible and Anthropic's, called with the platform's own credential."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.errors import ApiError
from pydantic import ValidationError
from router import anthropic as dialect
from router import credentials, to_anthropic
from router.routes import Target

from .conftest import until

Running = Callable[..., Any]
SECRET = "provider-" + "credential-0123456789"
CALLER = "cf-the-callers-own-key"
HELLO: Any = [{"role": "user", "content": "hello"}]
TENANT = {"id": "t", "keys": [hashlib.sha256(CALLER.encode()).hexdigest()], "budget_usd": 1e9}
AUDIO = {"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}}
COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "one two"},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 2},
}


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a mounted Secret."""
    monkeypatch.setattr(credentials, "FOLDER", tmp_path)
    monkeypatch.setattr(credentials, "LOOK_S", 0.0)
    file = tmp_path / "127.0.0.1" / "openai"
    file.parent.mkdir()
    file.write_text(f"{SECRET}\n")
    return file


@pytest.fixture
def outside(running: Running, secret: Path) -> Callable[..., Any]:
    """Function that starts a Router with an external model."""

    def make(upstream: Any, api: str = "openai", **route: Any) -> Any:
        target = {"name": "p", "upstream": upstream.url, "api": api, "credential": "openai", "upstream_model": "big",
                  "output_price": 1_000_000}  # fmt: skip
        router = running([], targets=[target], tenants=[TENANT], **route)
        router.client.headers["authorization"] = f"Bearer {CALLER}"
        return router

    return make


def body_of(says: Any, content: Any, status: int = 200) -> Any:
    return says([json.dumps(content).encode()], status, {"content-type": "application/json"})


def test_the_platforms_credential_is_shown_and_the_callers_is_not(says: Any, outside: Any) -> None:
    upstream = body_of(says, COMPLETION)
    answer = outside(upstream).ask()
    assert answer.json()["choices"][0]["message"]["content"] == "one two"
    (head,) = upstream.heads
    assert head["authorization"] == f"Bearer {SECRET}"
    assert CALLER not in str(head) and CALLER.encode() not in upstream.seen[0]
    assert "traceparent" not in head and "x-client-id" not in head
    assert json.loads(upstream.seen[0])["model"] == "big"
    assert SECRET not in str(answer.headers) + answer.text


def test_a_credential_is_replaced_while_the_router_runs(says: Any, outside: Any, secret: Path) -> None:
    upstream = body_of(says, COMPLETION)
    router = outside(upstream)
    router.ask()
    another = secret.with_name("..data")
    another.write_text("another-credential")
    another.replace(secret)
    router.ask()
    assert [head["authorization"] for head in upstream.heads] == [f"Bearer {SECRET}", "Bearer another-credential"]


@pytest.mark.parametrize("content", [None, "", "two\nlines-of-text", "schlüssel-12345", "short"])
def test_an_invalid_credential_causes_no_request(says: Any, outside: Any, secret: Path, content: str | None) -> None:
    secret.unlink() if content is None else secret.write_text(content)
    upstream = body_of(says, COMPLETION)
    answer = outside(upstream, attempts=2).ask()
    assert answer.status_code == 502
    assert not upstream.seen
    assert content is None or not content or content not in answer.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500])
@pytest.mark.parametrize("stream", [False, True])
def test_a_credential_in_a_providers_answer_is_hidden_from_tenants(
    says: Any, outside: Any, capfd: pytest.CaptureFixture[str], status: int, stream: bool
) -> None:
    error = {"error": {"message": f"Incorrect API key provided: {SECRET}", "code": SECRET}}
    answer = outside(body_of(says, error, status), attempts=1).ask(stream=stream)
    assert answer.status_code == (502 if status in (401, 403, 500) else status)
    assert SECRET not in answer.text + str(answer.headers)
    assert SECRET not in "".join(capfd.readouterr())


def test_a_credential_in_a_providers_stream_is_hidden_from_tenants(says: Any, outside: Any) -> None:
    event = f'data: {{"error": {{"message": "bad key {SECRET}"}}}}\n\n'.encode()
    assert SECRET not in outside(says([event[:50], event[50:]])).ask(stream=True).text


def test_a_credential_is_sent_to_its_own_host_only(says: Any, outside: Any, secret: Path) -> None:
    secret.parent.rename(secret.parent.with_name("api.provider.example"))
    upstream = body_of(says, COMPLETION)
    assert outside(upstream, attempts=1).ask().status_code == 502
    assert not upstream.seen


def test_a_credential_is_sent_over_https_only() -> None:
    with pytest.raises(ValidationError, match="an https URL"):
        Target.model_validate({"upstream": "http://api.provider.example", "credential": "openai"})
    with pytest.raises(ValidationError):
        Target.model_validate({"upstream": "https://api.provider.example", "credential": "../../etc/passwd"})


def test_a_router_with_a_model_outside_is_ready_without_asking_it(says: Any, outside: Any) -> None:
    upstream = body_of(says, COMPLETION)
    assert outside(upstream).client.get("/readyz").status_code == 200
    assert not upstream.seen


# --- Anthropic's API ------------------------------------------------------------------------------------


def test_a_chat_completion_is_translated_for_anthropics_api(says: Any, outside: Any) -> None:
    upstream = body_of(says, MESSAGE)
    router = outside(upstream, "anthropic")
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    call = {"id": "t0", "type": "function", "function": {"name": "add", "arguments": '{"a":0}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t0", "content": "1"},
        *HELLO,
    ]
    body = {"model": "m", "messages": messages, "tools": [tool], "tool_choice": "required", "stop": "END",
            "parallel_tool_calls": False, "temperature": 0.5, "user": "u"}  # fmt: skip
    answer = router.client.post("/v1/chat/completions", json=body).json()
    (head,), sent = upstream.heads, json.loads(upstream.seen[0])
    assert (head["path"], head["x-api-key"], head["anthropic-version"]) == ("/v1/messages", SECRET, "2023-06-01")
    assert "authorization" not in head
    assert sent["system"] == "Be brief."
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][0]["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert sent["messages"][1]["content"] == [{"type": "tool_use", "id": "t0", "name": "add", "input": {"a": 0}}]
    assert [block["type"] for block in sent["messages"][2]["content"]] == ["tool_result", "text"]
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert (sent["stop_sequences"], sent["max_tokens"], sent["metadata"]) == (["END"], 4096, {"user_id": "u"})
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "tool_calls")
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}
    assert answer["usage"] == {"prompt_tokens": 105, "completion_tokens": 2, "total_tokens": 107}
    assert router.core.accounts.all()[0].spent == pytest.approx(2)


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\r\ndata: {json.dumps({'type': kind, **more})}\r\n\r\n".encode()


def events() -> list[bytes]:
    start = {**MESSAGE, "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}}
    use = {"type": "tool_use", "id": "t1", "name": "add", "input": {}}
    return [
        event("message_start", message=start),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("ping"),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "one "}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "two"}),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block=use),
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a":1}'}),
        event("content_block_stop", index=1),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 2}),
        event("message_stop"),
    ]


@pytest.mark.parametrize("asked", [False, True])
def test_a_streamed_chat_completion_is_made_of_anthropics_events(says: Any, outside: Any, asked: bool) -> None:
    router = outside(says(events()), "anthropic")
    options = {"stream_options": {"include_usage": True}} if asked else {}
    *chunks, done = router.stream(**options)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "one two"
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0]["id"] == "t1" and "".join(call["function"]["arguments"] for call in calls) == '{"a":1}'
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "tool_calls"
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk] == ([2] if asked else [])
    assert done == "[DONE]"
    assert router.core.accounts.all()[0].spent == pytest.approx(2)


def test_anthropics_client_reaches_anthropics_api(says: Any, outside: Any) -> None:
    router = outside(says(events()), "anthropic")
    client = anthropic.Anthropic(base_url=router.url, api_key=CALLER, max_retries=0)
    with client.messages.stream(model="m", max_tokens=16, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "one two"
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (5, 2)


def test_an_invalid_message_is_metered_nevertheless(says: Any, outside: Any) -> None:
    router = outside(body_of(says, {"type": "surprise", "content": "twelve characters"}), "anthropic")
    assert router.ask().json()["error"]["code"] == "bad_answer"
    until(lambda: router.core.accounts.all()[0].spent > 0)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"temperature": 1.5}, "temperature"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "user", "content": [AUDIO]}]}, "messages.0.content.0"),
    ],
)
def test_parameters_that_the_api_lacks_are_refused_by_name(
    says: Any, outside: Any, asked: dict[str, Any], param: str
) -> None:
    upstream = body_of(says, MESSAGE)
    answer = outside(upstream, "anthropic").client.post(
        "/v1/chat/completions", json={"model": "m", "messages": HELLO, **asked}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not upstream.seen


def test_other_paths_are_not_served_by_it(says: Any, outside: Any) -> None:
    router = outside(body_of(says, MESSAGE), "anthropic")
    for path, body in (("/v1/embeddings", {"input": "x"}), ("/v1/completions", {"prompt": "x"})):
        answer = router.client.post(path, json={"model": "m", **body})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_supported")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TURNS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)


@given(TURNS, TEXT)
def test_a_conversation_is_the_same_after_both_translations(turns: list[tuple[str, str]], system: str) -> None:
    messages: list[Any] = []
    for question, said in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": said}]
    messages.append({"role": "user", "content": "and now?"})
    body = {"model": "m", "max_tokens": 9, "system": system, "messages": messages}
    sent = json.loads(to_anthropic.request(json.loads(dialect.request(json.dumps(body).encode()))))
    assert sent["system"] == system
    assert [(t["role"], t["content"][0]["text"]) for t in sent["messages"]] == [
        (m["role"], m["content"]) for m in messages
    ]


FIELDS = ["type", "content", "text", "usage", "stop_reason", "delta", "index", "content_block"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), x, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_no_answer_of_a_provider_causes_an_internal_error(content: Any) -> None:
    body = json.dumps(content).encode()
    with contextlib.suppress(ApiError):
        assert json.loads(to_anthropic.answer(body))["choices"]
    assert isinstance(to_anthropic.Stream().feed(b"data: " + body + b"\n\n"), bytes)
