"""Translates chat completions for servers with Anthropic's Messages API: requests, answers and streams.

Parameters that the API does not support are refused by name.
Source: https://docs.anthropic.com/en/api/messages and /en/api/messages-streaming, version 2023-06-01.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from kit.errors import ApiError, ErrorType

from router import sse

PATH = b"/v1/messages"
VERSION = b"2023-06-01"
MAX_TOKENS = 4096
"""Token limit of an answer whose request has none, since the API requires one."""
_PASSED = ("temperature", "top_p", "top_k", "stream")
_HANDLED = frozenset(
    {
        *("model", "messages", "max_tokens", "max_completion_tokens", "stop", "stream_options", "tools", "tool_choice"),
        *("parallel_tool_calls", "user", "n", "metadata", "continue_final_message", "add_generation_prompt"),
        *("store", "service_tier", *_PASSED),
    }
)
_DEFAULTS = {"response_format": {"type": "text"}, "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0}
"""Values without effect."""
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
Json = dict[str, Any]


def _refused(param: str, text: str) -> ApiError:
    return ApiError(400, f"{param}: {text}", param=param, code="unsupported_parameter")


# --- requests ---------------------------------------------------------------------------------------


def request(chat: Json) -> bytes:
    """Body of a Messages request. Raises ApiError(400) with the parameter that this model does not support."""
    for name, value in chat.items():
        if name not in _HANDLED and value is not None and value != _DEFAULTS.get(name, ...):
            raise _refused(name, "this model does not support it")
    if (chat.get("n") or 1) != 1:
        raise _refused("n", "this model supports one answer only; send 1")
    system, messages = _messages(chat["messages"])
    made: Json = {
        "model": chat["model"],
        "messages": messages,
        "max_tokens": chat.get("max_completion_tokens") or chat.get("max_tokens") or MAX_TOKENS,
        **{name: chat[name] for name in _PASSED if chat.get(name) is not None},
    }
    if system:
        made["system"] = system
    if (heat := made.get("temperature")) is not None and heat > 1:
        raise _refused("temperature", f"this model supports 0 to 1; the value is {heat}")
    if stop := chat.get("stop"):
        made["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if user := chat.get("user"):
        made["metadata"] = {"user_id": user}
    made |= _tools(chat)
    return msgspec.json.encode(made)


def _tools(chat: Json) -> Json:
    tools = chat.get("tools")
    if not tools:
        return {}
    made: Json = {"tools": [_tool(place, tool) for place, tool in enumerate(tools)]}
    wanted = chat.get("tool_choice") or "auto"
    if isinstance(wanted, dict):
        choice: Json = {"type": "tool", "name": (wanted.get("function") or {}).get("name", "")}
    else:
        choice = {"type": {"required": "any"}.get(wanted, wanted)}
    if chat.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {**made, "tool_choice": choice}


def _tool(place: int, tool: Any) -> Json:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise _refused(f"tools.{place}", "this model supports function tools only")
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    described = {"description": function["description"]} if function.get("description") else {}
    return {"name": function.get("name", ""), **described, "input_schema": schema}


def _messages(messages: list[Any]) -> tuple[str, list[Json]]:
    """(system prompt, turns). Tool results belong to the user's turns."""
    system: list[str] = []
    turns: list[Json] = []
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if not isinstance(message, dict):
            raise ApiError(400, f"{where}: must be an object", param=where, code="invalid_value")
        role = message.get("role")
        if role in ("system", "developer"):
            system += [str(block.get("text", "")) for block in _blocks(message.get("content"), where)]
            continue
        if role == "tool":
            content = _blocks(message.get("content"), where)
            blocks = [{"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": content}]
        else:
            blocks = [*_blocks(message.get("content"), where), *_uses(message, where)]
        own = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == own:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": own, "content": blocks})
    if turns and turns[-1]["role"] == "assistant" and (last := turns[-1]["content"][-1])["type"] == "text":
        last["text"] = last["text"].rstrip()  # the API refuses an answer's beginning that ends with a space
    return "\n\n".join(system), turns


def _blocks(content: Any, where: str) -> list[Json]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_block(part, f"{where}.content.{place}") for place, part in enumerate(content)]


def _block(part: Any, where: str) -> Json:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part.get(kind, "")}
    if kind == "image_url":
        url = str((part.get("image_url") or {}).get("url", ""))
        head, comma, data = url.partition(",")
        if head.startswith("data:") and head.endswith(";base64") and comma:
            media = head.removeprefix("data:").removesuffix(";base64")
            return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise _refused(where, f"this model does not support parts of type {kind!r}")


def _uses(message: Json, where: str) -> list[Json]:
    made: list[Json] = []
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        try:
            given = msgspec.json.decode(function.get("arguments") or "{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            given = None
        if not isinstance(given, dict):
            param = f"{where}.tool_calls.{place}.function.arguments"
            raise ApiError(400, f"{param}: must be a JSON object", param=param, code="invalid_value")
        made.append({"type": "tool_use", "id": call.get("id", ""), "name": function.get("name", ""), "input": given})
    return made


# --- answers ----------------------------------------------------------------------------------------


def answer(body: bytes) -> bytes:
    """A message as a chat completion. Raises ApiError(502) if it is invalid."""
    try:
        said = msgspec.json.decode(body)
        blocks = said["content"]
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        thought = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
        calls = [_call(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
        message: Json = {"role": "assistant", "content": text or None}
        message |= {"tool_calls": calls} if calls else {}
        message |= {"reasoning_content": thought} if thought else {}
        completion = {
            **_head(said, "chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": _FINISH.get(said["stop_reason"], "stop")}],
            "usage": _usage(said.get("usage")),
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, AttributeError):
        raise ApiError(
            502, "The model's answer is not a valid message.", ErrorType.UPSTREAM, code="bad_answer"
        ) from None
    return msgspec.json.encode(completion)


def _call(name: str, function: str, given: Any) -> Json:
    arguments = msgspec.json.encode(given).decode()
    return {"id": name, "type": "function", "function": {"name": function, "arguments": arguments}}


def _head(message: Json, kind: str) -> Json:
    return {"id": message.get("id", ""), "object": kind, "created": int(time.time()), "model": message.get("model", "")}


def _usage(reported: Any) -> Json | None:
    """Usage. Tokens read from or written to the provider's cache count as input, as in OpenAI's API."""
    if not isinstance(reported, dict):
        return None
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    asked = sum(value for name in parts if isinstance(value := reported.get(name), int))
    said = reported.get("output_tokens")
    total = {"total_tokens": asked + said} if isinstance(said, int) else {}
    return {"prompt_tokens": asked or None, "completion_tokens": said, **total}


class Stream:
    """Translates the events of a message to chunks of a chat completion."""

    def __init__(self) -> None:
        self._head: Json = {"id": "", "object": "chat.completion.chunk", "created": int(time.time()), "model": ""}
        self._usage: Json = {}
        self._calls: dict[Any, int] = {}
        """Index of a tool call by the index of its block."""

    def feed(self, events: bytes) -> bytes:
        """Translate complete events."""
        out: list[bytes] = []
        for event in sse.split(events):
            try:
                self._event(msgspec.json.decode(sse.data(event) or b"{}"), out)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, AttributeError):
                continue  # ignore unknown events
        return b"".join(out)

    def _event(self, event: Json, out: list[bytes]) -> None:
        kind = event.get("type")
        if kind == "message_start":
            message = event["message"]
            self._head |= {"id": message.get("id", ""), "model": message.get("model", "")}
            self._usage |= message.get("usage") or {}
            self._say({"role": "assistant", "content": ""}, out)
        elif kind == "content_block_start" and event["content_block"]["type"] == "tool_use":
            block = event["content_block"]
            number = self._calls.setdefault(event["index"], len(self._calls))
            function = {"name": block["name"], "arguments": ""}
            call = {"index": number, "id": block["id"], "type": "function", "function": function}
            self._say({"tool_calls": [call]}, out)
        elif kind == "content_block_delta":
            self._delta(event["index"], event["delta"], out)
        elif kind == "message_delta":
            self._usage |= event.get("usage") or {}
            if reason := event["delta"].get("stop_reason"):
                self._say({}, out, _FINISH.get(reason, "stop"))
        elif kind == "message_stop":
            out.append(self._written({"choices": [], "usage": _usage(self._usage)}))
            out.append(sse.event(sse.DONE))
        elif kind == "error":
            reported = event["error"]
            error = {
                "message": reported.get("message", ""),
                "type": "upstream_error",
                "param": None,
                "code": reported["type"],
            }
            out.append(sse.event(msgspec.json.encode({"error": error})))

    def _delta(self, place: Any, delta: Json, out: list[bytes]) -> None:
        if delta["type"] == "text_delta":
            self._say({"content": delta["text"]}, out)
        elif delta["type"] == "thinking_delta":
            self._say({"reasoning_content": delta["thinking"]}, out)
        elif delta["type"] == "input_json_delta":
            call = {"index": self._calls[place], "function": {"arguments": delta["partial_json"]}}
            self._say({"tool_calls": [call]}, out)

    def _say(self, delta: Json, out: list[bytes], reason: str | None = None) -> None:
        out.append(self._written({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}))

    def _written(self, more: Json) -> bytes:
        return sse.event(msgspec.json.encode({**self._head, **more}))
