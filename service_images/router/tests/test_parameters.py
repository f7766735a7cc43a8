"""Each parameter is honoured, forwarded, or refused by name; null is equal to an absent one."""

from __future__ import annotations

from typing import Any

import msgspec
import openai
import openai.types as of_openai
import openai.types.chat.completion_create_params as chat_params
import openai.types.completion_create_params as completion_params
import openai.types.responses.response_create_params as response_params
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st
from kit.errors import ApiError
from router import parameters, payload, usage

PUBLISHED = {
    b"/v1/chat/completions": chat_params.CompletionCreateParamsNonStreaming,
    b"/v1/completions": completion_params.CompletionCreateParamsNonStreaming,
    b"/v1/embeddings": of_openai.EmbeddingCreateParams,
    b"/v1/responses": response_params.ResponseCreateParamsNonStreaming,
}
BY_PATH = [(path, name) for path, kind in PUBLISHED.items() for name in sorted(typing_extensions.get_type_hints(kind))]
HELLO = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def refusal(targets: Any, running: Any) -> Any:
    router = running(targets(1))

    def ask(path: str, **body: Any) -> dict[str, Any]:
        answer = router.client.post(path, json={"model": "m", **body})
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert isinstance(error["code"], str) and error["message"] and answer.headers["x-request-id"]
        return error

    return ask


@pytest.mark.parametrize(("path", "name"), BY_PATH)
def test_each_published_parameter_is_known_or_refused_by_its_name(path: bytes, name: str) -> None:
    if name in parameters.FIELDS[path]:
        return
    with pytest.raises(ApiError) as error:
        parameters.check(path, b'{"model": "m", "%s": {"a": 1}}' % name.encode())
    assert error.value.param == name and error.value.message.startswith(f"{name}: ")


@pytest.mark.parametrize(("path", "name"), BY_PATH)
def test_null_is_as_absent(path: bytes, name: str) -> None:
    if name != "model":
        parameters.check(path, b'{"model": "m", "%s": null}' % name.encode())


def test_a_client_that_sends_null_for_all_is_answered(targets: Any, running: Any) -> None:
    names = set(typing_extensions.get_type_hints(PUBLISHED[b"/v1/chat/completions"])) - {"model", "messages"}
    answer = running(targets(1)).ask(**dict.fromkeys(names), prompt=None)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        (
            "/v1/chat/completions",
            {"messages": HELLO, "temperature": 9, "n": 0, "top_p": 2},
            ["temperature", "n", "top_p"],
        ),
        ("/v1/chat/completions", {"messages": HELLO, "temprature": 1}, ["temprature"]),
        ("/v1/chat/completions", {"messages": HELLO, "web_search_options": {}}, ["web_search_options"]),
        ("/v1/chat/completions", {"messages": HELLO, "tools": [{"type": "web_search"}]}, ["tools.0.type"]),
        ("/v1/chat/completions", {"messages": HELLO, "tool_choice": "required"}, ["tool_choice"]),
        ("/v1/chat/completions", {"messages": HELLO, "thinking": {"type": "enabled"}}, ["thinking"]),
        ("/v1/chat/completions", {"messages": HELLO, "response_format": {"type": "xml"}}, ["response_format.type"]),
        ("/v1/chat/completions", {"messages": HELLO, "store": True}, ["store"]),
        ("/v1/chat/completions", {"messages": HELLO, "service_tier": "priority"}, ["service_tier"]),
        ("/v1/chat/completions", {"messages": HELLO, "modalities": ["text", "audio"]}, ["modalities"]),
        ("/v1/responses", {"input": "x", "previous_response_id": "r"}, ["previous_response_id"]),
        ("/v1/responses", {"input": "x", "tools": [{"type": "file_search"}]}, ["tools.0.type"]),
        ("/v1/responses", {"input": "x", "tools": [{"type": "web_search"}]}, ["tools.0.type"]),
        ("/v1/responses", {"input": "x", "background": True, "conversation": "c"}, ["background", "conversation"]),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "i"}]}, ["input.0.type"]),
        ("/v1/completions", {"prompt": "x", "suffix": "y"}, ["suffix"]),
        ("/v1/embeddings", {"input": "x", "encoding_format": "int8"}, ["encoding_format"]),
        ("/v1/embeddings", {"input": "x", "stream": True}, ["stream"]),
    ],
)
def test_unsupported_parameters_are_refused_by_name(refusal: Any, path: str, body: Any, fields: list[str]) -> None:
    error = refusal(path, **body)
    assert error["param"].startswith(fields[0])
    for field in fields:
        assert f"{field}" in error["message"]


def test_a_choice_names_a_tool_that_there_is(refusal: Any) -> None:
    choice = {"type": "function", "function": {"name": "g"}}
    assert "'g'" in refusal("/v1/chat/completions", messages=HELLO, tools=[TOOL], tool_choice=choice)["message"]


def test_supported_parameters_are_forwarded(targets: Any, running: Any) -> None:
    (target,) = targets(1)
    more = {"top_k": 4, "tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}}
    assert running([target]).ask(**more).status_code == 200
    assert {name: target.seen[0][name] for name in more} == more


def test_errors_of_servers_have_openais_shape(targets: Any, running: Any) -> None:
    (target,) = targets(1)
    target.status = 400
    target.refusal = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}
    error = running([target]).ask().json()["error"]
    assert error == {"message": "too long", "type": "invalid_request_error", "param": None, "code": "upstream_refused"}


def test_a_wrong_kind_of_model_is_a_clear_error(targets: Any, running: Any) -> None:
    (target,) = targets(1)
    target.status = 404
    client = openai.OpenAI(base_url=running([target]).url + "/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="m", messages=HELLO)  # type: ignore[arg-type]
    assert error.value.code == "model_not_supported" and "/v1/chat/completions" in error.value.message


@given(
    st.fixed_dictionaries(
        {"model": st.just("m"), "messages": st.just([{"role": "user", "content": "Hi"}])},
        optional={
            "stream": st.booleans() | st.none(),
            "stream_options": st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
            "max_tokens": st.none() | st.integers(0, 1_000_000),
            "max_completion_tokens": st.none() | st.integers(0, 1_000_000),
            "temperature": st.none() | st.integers(0, 2) | st.floats(0, 2),
            "top_p": st.none() | st.floats(0, 1),
            "user": st.none() | st.text(max_size=8, alphabet="abc"),
            "stop": st.none() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=3),
            "seed": st.none() | st.integers(-(2**31), 2**31),
            "n": st.none() | st.integers(1, 4),
            "metadata": st.none() | st.dictionaries(st.sampled_from("abc"), st.just("x")),
        },
    )
)
def test_checking_and_reading_a_request_yield_the_same_fields(content: dict[str, Any]) -> None:
    body = msgspec.json.encode(content)
    checked = payload.read(payload.CHAT, body, parameters.check(payload.CHAT, body))
    alone = payload.read(payload.CHAT, body)
    for name in usage.Ask.__struct_fields__:
        one, other = getattr(checked, name), getattr(alone, name)
        assert bytes(one) == bytes(other) if isinstance(other, msgspec.Raw) else one == other, name
    assert checked.output_tokens() == alone.output_tokens()
