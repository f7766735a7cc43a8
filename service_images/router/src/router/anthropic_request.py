"""Requests of Anthropic's Messages API as chat completions: each field and block is translated, or refused by name.

Source: https://docs.anthropic.com/en/api/messages, version 2023-06-01; the types are those of Anthropic's client.
Fields without a counterpart that may be given nevertheless, since they change no answer: `cache_control` (servers keep
beginnings of prompts by themselves), `service_tier`, `signature`, and `redacted_thinking`, which only the model that
has written it can read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from kit.errors import ApiError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

Json = dict[str, Any]
EFFORTS = ((4096, "low"), (16_384, "medium"))
"""Tokens of thought up to which an effort is low or medium; OpenAI's API knows efforts only."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CacheControl(_Part):
    """Accepted: servers keep beginnings of prompts by themselves."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Block(_Part):
    cache_control: CacheControl | None = None


def _blocks(value: Any) -> Any:
    """A text is short for one block."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class Text(_Block):
    """A piece of text."""

    type: Literal["text"]
    text: str
    citations: Annotated[list[Any], Field(max_length=0)] | None = None


class Base64Source(_Part):
    """Bytes of an image or a PDF."""

    type: Literal["base64"]
    media_type: str
    data: str


class UrlSource(_Part):
    """Where an image is."""

    type: Literal["url"]
    url: str


class TextSource(_Part):
    """A document that is plain text."""

    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: str


class Image(_Block):
    """An image."""

    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]


class ContentSource(_Part):
    """A document of blocks."""

    type: Literal["content"]
    content: Annotated[list[Annotated[Text | Image, Field(discriminator="type")]], BeforeValidator(_blocks)]


class Citations(_Part):
    """Whether the answer should cite: no model here can."""

    enabled: Literal[False] | None = None


class Document(_Block):
    """A document: text, blocks, or a PDF in base64."""

    type: Literal["document"]
    source: Annotated[Base64Source | TextSource | ContentSource, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None


class SearchResult(_Block):
    """A passage that a search has found."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[Text]
    citations: Citations | None = None


class Thinking(_Part):
    """A thought of the model's, as it was answered."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinking(_Part):
    """A thought that only the model which has written it can read."""

    type: Literal["redacted_thinking"]
    data: str


class Caller(_Part):
    """Who uses a tool."""

    type: Literal["direct"]


class ToolUse(_Block):
    """The model's wish to use a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Json
    caller: Caller | None = None


Result = Annotated[Text | Image | SearchResult | Document, Field(discriminator="type")]


class ToolResult(_Block):
    """What a tool answered."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[list[Result], BeforeValidator(_blocks)] | None = None
    is_error: bool | None = None


Block = Annotated[
    Text | Image | Document | SearchResult | Thinking | RedactedThinking | ToolUse | ToolResult,
    Field(discriminator="type"),
]
_OF_ROLE: dict[str, tuple[type[BaseModel], ...]] = {
    "user": (Text, Image, Document, SearchResult, ToolResult),
    "assistant": (Text, Thinking, RedactedThinking, ToolUse),
    "system": (Text,),
}


class Message(_Part):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Block], BeforeValidator(_blocks)]

    @model_validator(mode="after")
    def _fits(self) -> Message:
        for number, block in enumerate(self.content):
            if not isinstance(block, _OF_ROLE[self.role]):
                raise ValueError(f"content.{number}: a block of type {block.type} cannot be the {self.role}'s")
        return self


class Tool(_Block):
    """A tool that the model may use; tools that run on a server are not offered."""

    type: Literal["custom"] | None = None
    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    input_schema: Json
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    input_examples: Annotated[list[Any], Field(max_length=0)] | None = None


class ToolChoice(_Part):
    """Whether a tool must be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _named(self) -> ToolChoice:
        if (self.type == "tool") != bool(self.name):
            raise ValueError('a name belongs to the type "tool", and only to it')
        return self


class Metadata(_Part):
    """About the caller."""

    user_id: str | None = Field(None, max_length=256)


class ThinkingConfig(_Part):
    """How much the model should think."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(None, ge=1024)
    display: Literal["summarized"] | None = None

    @model_validator(mode="after")
    def _budgeted(self) -> ThinkingConfig:
        if (self.type == "enabled") != (self.budget_tokens is not None):
            raise ValueError('budget_tokens belongs to the type "enabled"')
        return self


class OutputFormat(_Part):
    """The schema that the answer has to fit."""

    type: Literal["json_schema"]
    schema_: Json = Field(alias="schema")


class OutputConfig(_Part):
    """The form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Counted(_Part):
    """What is counted: a request without what only concerns its answer."""

    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1)
    system: Annotated[list[Text], BeforeValidator(_blocks)] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None


class Request(Counted):
    """What a client sends."""

    max_tokens: int = Field(ge=1, le=1_000_000)
    stop_sequences: list[str] | None = Field(None, max_length=64)
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard"] | None = None


# --- mistakes ---------------------------------------------------------------------------------------

_BLOCKS = frozenset(
    ("text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result")
)
_SOURCES = frozenset(("base64", "url", "text", "content"))


def _path(loc: tuple[int | str, ...]) -> str:
    """Without the names that pydantic gives to the kinds of a block."""
    kept: list[str] = []
    for number, step in enumerate(loc):
        before = loc[number - 1] if number else ""
        if (step in _BLOCKS and isinstance(before, int)) or (step in _SOURCES and before == "source"):
            continue
        kept.append("schema" if step == "schema_" else str(step))
    return ".".join(kept)


def refusal(error: ValidationError) -> ApiError:
    """All mistakes at once; `param` is the first one's field."""
    lines: list[str] = []
    fields: list[str] = []
    for one in error.errors():
        field, text = _path(one["loc"]), one["msg"].removeprefix("Value error, ")
        if one["type"] == "union_tag_invalid":
            context = one.get("ctx", {})
            text = f'"{context.get("tag")}" is not supported here; supported are {context.get("expected_tags")}'
            field = f"{field}.type"
        elif one["type"] == "extra_forbidden":
            text = "is not supported here"
        fields.append(field)
        lines.append(f"{field or 'body'}: {text}")
    shown = [*lines[:20], *([f"and {len(lines) - 20} more"] if len(lines) > 20 else [])]
    return ApiError(400, "; ".join(shown), param=fields[0] or None, code=error.errors()[0]["type"])


# --- translation --------------------------------------------------------------------------------------


def _plain(blocks: list[Text]) -> str:
    return "".join(block.text for block in blocks)


def _image(block: Image) -> Json:
    source = block.source
    url = source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _parts(blocks: list[Any]) -> Iterator[Json]:
    """The parts of a message that blocks stand for."""
    for block in blocks:
        if isinstance(block, Text):
            yield _text(block.text)
        elif isinstance(block, Image):
            yield _image(block)
        elif isinstance(block, SearchResult):
            yield _text(f"{block.title}\n{block.source}\n\n{_plain(block.content)}")
        elif isinstance(block, Document):
            yield from _document(block)


def _document(block: Document) -> Iterator[Json]:
    source = block.source
    head = "\n".join(text for text in (block.title, block.context) if text)
    if isinstance(source, Base64Source):
        if block.context:
            yield _text(block.context)
        data = f"data:{source.media_type};base64,{source.data}"
        yield {"type": "file", "file": {"filename": block.title or "document.pdf", "file_data": data}}
        return
    if head:
        yield _text(f"{head}\n\n")
    if isinstance(source, TextSource):
        yield _text(source.data)
    else:
        yield from _parts(list(source.content))


def _joined(parts: list[Json]) -> str | list[Json]:
    """Plain text where it is no more than that."""
    return parts if any(part["type"] != "text" for part in parts) else "".join(part["text"] for part in parts)


def _result(block: ToolResult) -> tuple[Json, list[Json]]:
    """A tool's message, and what it may not hold: there a tool answers with text only."""
    parts = list(_parts(list(block.content or ())))
    said = "".join(part["text"] for part in parts if part["type"] == "text")
    more = [part for part in parts if part["type"] != "text"]
    if more:
        said = said or "The result follows in the next message."
        more.insert(0, _text(f"Result of the tool call {block.tool_use_id}:"))
    if block.is_error:
        said = f"Error: {said}"
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": said}, more


def _turn(message: Message) -> list[Json]:
    """One turn may be several messages there: results of tools are messages of their own."""
    if message.role == "assistant":
        return [_assistant(message)]
    results: list[Json] = []
    parts: list[Json] = []
    for block in message.content:
        if isinstance(block, ToolResult):
            said, more = _result(block)
            results.append(said)
            parts += more
        else:
            parts += _parts([block])
    own = [{"role": message.role, "content": _joined(parts)}] if parts or not results else []
    return [*results, *own]


def _assistant(message: Message) -> Json:
    own: Json = {"role": "assistant"}
    texts = [block.text for block in message.content if isinstance(block, Text)]
    thoughts = [block.thinking for block in message.content if isinstance(block, Thinking)]
    calls = [
        {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": msgspec.json.encode(block.input).decode()},
        }
        for block in message.content
        if isinstance(block, ToolUse)
    ]
    if thoughts:
        own["reasoning_content"] = "\n".join(thoughts)
    own["content"] = "".join(texts) if texts or not calls else None
    if calls:
        own["tool_calls"] = calls
    return own


def _tool(tool: Tool) -> Json:
    function: Json = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _effort(asked: Counted) -> str | None:
    """OpenAI's word for how much a model should think; None: the model decides."""
    if asked.output_config and asked.output_config.effort:
        effort = asked.output_config.effort
        return "high" if effort in ("xhigh", "max") else effort
    if asked.thinking is None or asked.thinking.type == "adaptive":
        return None
    if asked.thinking.type == "disabled":
        return "none"
    budget = asked.thinking.budget_tokens or 0
    return next((word for most, word in EFFORTS if budget <= most), "high")


def _chat(asked: Counted) -> Json:
    messages = [message for turn in asked.messages for message in _turn(turn)]
    if asked.system:
        messages.insert(0, {"role": "system", "content": _plain(asked.system)})
    chat: Json = {"model": asked.model, "messages": messages}
    if asked.tools:
        chat["tools"] = [_tool(tool) for tool in asked.tools]
    if choice := asked.tool_choice:
        named = {"type": "function", "function": {"name": choice.name}}
        chat["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}.get(choice.type, named)
        if choice.disable_parallel_tool_use is not None:
            chat["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if (effort := _effort(asked)) is not None:
        chat["reasoning_effort"] = effort
    if asked.output_config and asked.output_config.format:
        schema = {"name": "answer", "strict": True, "schema": asked.output_config.format.schema_}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    if messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        # The client begins the answer; vLLM's servers go on with it when they are asked in this way.
        chat["continue_final_message"], chat["add_generation_prompt"] = True, False
    return chat


def request(body: bytes) -> bytes:
    """The chat completion that a Messages request stands for. Raises ApiError with all fields that are wrong."""
    asked = _read(Request, body)
    chat = _chat(asked) | {"max_tokens": asked.max_tokens, "stream": bool(asked.stream)}
    optional = {
        "stop": asked.stop_sequences,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "user": asked.metadata.user_id if asked.metadata else None,
    }
    chat |= {name: value for name, value in optional.items() if value is not None}
    return msgspec.json.encode(chat)


def counted(body: bytes) -> Json:
    """The chat completion whose input is counted. Raises ApiError with all fields that are wrong."""
    return _chat(_read(Counted, body))


def _read(kind: Any, body: bytes) -> Any:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None
