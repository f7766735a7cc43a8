"""Anthropic's Messages API over chat completions: requests one way, answers and streams the other.

Source: https://docs.anthropic.com/en/api/messages and /en/api/messages-streaming, version 2023-06-01.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from kit.errors import ApiError, ErrorType
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router import sse

PATH = b"/v1/messages"
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
Json = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Text(_Part):
    """A piece of text."""

    type: Literal["text"]
    text: str


class Source(_Part):
    """Where an image is."""

    type: Literal["base64", "url"]
    media_type: str = ""
    data: str = ""
    url: str = ""


class Image(_Part):
    """An image."""

    type: Literal["image"]
    source: Source


class ToolUse(_Part):
    """The model's wish to use a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Json


class ToolResult(_Part):
    """What a tool answered."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Text] = ""


Block = Annotated[Text | Image | ToolUse | ToolResult, Field(discriminator="type")]


class Message(_Part):
    """One turn."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class Tool(_Part):
    """A tool that the model may use."""

    name: str
    description: str = ""
    input_schema: Json


class ToolChoice(_Part):
    """Whether a tool must be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str = ""


class Metadata(_Part):
    """About the caller."""

    user_id: str | None = None


class Request(_Part):
    """What a client sends."""

    model: str = Field(min_length=1)
    max_tokens: int = Field(ge=1)
    messages: list[Message] = Field(min_length=1)
    system: str | list[Text] | None = None
    stop_sequences: list[str] | None = None
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    metadata: Metadata | None = None


def _text(content: str | list[Text]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)


def _image(source: Source) -> str:
    return source.url if source.type == "url" else f"data:{source.media_type};base64,{source.data}"


def _turn(message: Message) -> list[Json]:
    """One turn may be several messages there: results of tools are messages of their own."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    results: list[Json] = []
    parts: list[Json] = []
    calls: list[Json] = []
    for block in message.content:
        if isinstance(block, ToolResult):
            results.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": _text(block.content)})
        elif isinstance(block, ToolUse):
            arguments = msgspec.json.encode(block.input).decode()
            calls.append({"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}})
        elif isinstance(block, Image):
            parts.append({"type": "image_url", "image_url": {"url": _image(block.source)}})
        else:
            parts.append({"type": "text", "text": block.text})
    own: Json = {"role": message.role}
    only_text = all(part["type"] == "text" for part in parts)
    own["content"] = "".join(part["text"] for part in parts) if only_text else parts
    if calls:
        own["tool_calls"] = calls
        own["content"] = own["content"] or None
    return [*results, *([own] if parts or calls else [])]


def request(body: bytes) -> bytes:
    """The chat completion that a Messages request stands for. Raises ApiError with the field that is wrong."""
    try:
        asked = Request.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        raise ApiError(400, f"{param or 'body'}: {first['msg']}", param=param, code=first["type"]) from None
    messages = [message for turn in asked.messages for message in _turn(turn)]
    if asked.system:
        messages.insert(0, {"role": "system", "content": _text(asked.system)})
    chat: Json = {"model": asked.model, "max_tokens": asked.max_tokens, "messages": messages, "stream": asked.stream}
    optional = {
        "stop": asked.stop_sequences,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "user": asked.metadata.user_id if asked.metadata else None,
    }
    chat |= {name: value for name, value in optional.items() if value is not None}
    if asked.tools:
        chat["tools"] = [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": t.input_schema},
            }
            for t in asked.tools
        ]
    if asked.tool_choice:
        named = {"type": "function", "function": {"name": asked.tool_choice.name}}
        chat["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}.get(asked.tool_choice.type, named)
    return msgspec.json.encode(chat)


def error(failure: ApiError) -> bytes:
    """The envelope of an error."""
    kind = _ERRORS.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": failure.message}})


def message_of(body: bytes) -> str:
    """What an upstream's error says."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
        return "The model refused the request."


def _arguments(text: str) -> Json:
    try:
        found = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        found = None
    return found if isinstance(found, dict) else {}


def answer(body: bytes, request_id: str) -> bytes:
    """The message that a chat completion stands for. Raises ApiError where it is none."""
    try:
        completion = msgspec.json.decode(body)
        choice = completion["choices"][0]
        said = choice["message"]
        content: list[Json] = [{"type": "text", "text": said["content"]}] if said.get("content") else []
        for call in said.get("tool_calls") or ():
            function = call["function"]
            use = {"id": call["id"], "name": function["name"], "input": _arguments(function["arguments"])}
            content.append({"type": "tool_use", **use})
        usage = completion.get("usage") or {}
        message = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": completion.get("model", ""),
            "content": content,
            "stop_reason": _STOP.get(choice.get("finish_reason") or "stop", "end_turn"),
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage.get("prompt_tokens", 0),
                "output_tokens": usage.get("completion_tokens", 0),
            },
        }
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        raise ApiError(502, "The model's answer is no completion.", ErrorType.UPSTREAM, code="bad_answer") from None
    return msgspec.json.encode(message)


class Stream:
    """Turns the events of a streamed completion into those of a streamed message."""

    def __init__(self, request_id: str, model: str) -> None:
        self._id, self._model = request_id, model
        self._reader = sse.Reader()
        self._begun = False
        self._block = -1
        self._kind: object = None
        """What the open block is: "text", or the index of a tool call; None: none is open."""
        self._stop = "end_turn"
        self._usage = {"input_tokens": 0, "output_tokens": 0}
        self._ended = False

    @property
    def used(self) -> tuple[int, int] | None:
        """(input, output) tokens, once they are known."""
        found = self._usage["input_tokens"], self._usage["output_tokens"]
        return found if any(found) else None

    def feed(self, data: bytes) -> bytes:
        """Events for the client from a piece of the upstream's stream."""
        out: list[bytes] = []
        for event in sse.split(self._reader.feed(data)):
            if (line := sse.data(event)) is not None:
                self._line(line.strip(), out)
        return b"".join(out)

    def _line(self, line: bytes, out: list[bytes]) -> None:
        if line == b"[DONE]":
            self._end(out)
            return
        try:
            chunk = msgspec.json.decode(line)
            self._chunk(chunk, out)
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
            return  # an event that is no chunk says nothing

    def _chunk(self, chunk: Json, out: list[bytes]) -> None:
        if message := (chunk.get("error") or {}).get("message"):
            content = {"type": "error", "error": {"type": "api_error", "message": message}}
            out.append(_event("error", content))
            self._ended = True
            return
        self._start(out)
        if usage := chunk.get("usage"):
            self._usage = {
                "input_tokens": usage.get("prompt_tokens", 0),
                "output_tokens": usage.get("completion_tokens", 0),
            }
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                self._open("text", {"type": "text", "text": ""}, out)
                self._delta({"type": "text_delta", "text": text}, out)
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                block = {"type": "tool_use", "id": call.get("id", ""), "name": function.get("name", ""), "input": {}}
                self._open(call.get("index", 0), block, out)
                if arguments := function.get("arguments"):
                    self._delta({"type": "input_json_delta", "partial_json": arguments}, out)
            if reason := choice.get("finish_reason"):
                self._stop = _STOP.get(reason, "end_turn")

    def _start(self, out: list[bytes]) -> None:
        if self._begun:
            return
        self._begun = True
        message = {
            "id": f"msg_{self._id}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage,
        }
        out.append(_event("message_start", {"type": "message_start", "message": message}))

    def _open(self, kind: object, block: Json, out: list[bytes]) -> None:
        if self._kind == kind:
            return
        self._close(out)
        self._kind = kind
        self._block += 1
        content = {"type": "content_block_start", "index": self._block, "content_block": block}
        out.append(_event("content_block_start", content))

    def _delta(self, delta: Json, out: list[bytes]) -> None:
        content = {"type": "content_block_delta", "index": self._block, "delta": delta}
        out.append(_event("content_block_delta", content))

    def _close(self, out: list[bytes]) -> None:
        if self._kind is not None:
            self._kind = None
            out.append(_event("content_block_stop", {"type": "content_block_stop", "index": self._block}))

    def _end(self, out: list[bytes]) -> None:
        if self._ended:
            return
        self._ended = True
        self._start(out)
        self._close(out)
        delta = {"stop_reason": self._stop, "stop_sequence": None}
        out.append(_event("message_delta", {"type": "message_delta", "delta": delta, "usage": self._usage}))
        out.append(_event("message_stop", {"type": "message_stop"}))


def _event(name: str, content: Json) -> bytes:
    return sse.event(msgspec.json.encode(content), name.encode())
