"""Requests of Anthropic's Messages API, as far as they are supported: all else is refused by its name.

Source: https://docs.anthropic.com/en/api/messages, version 2023-06-01; the types are those of Anthropic's client.
Fields without a counterpart that may be given nevertheless, since they change no answer: `cache_control` (servers keep
beginnings of prompts by themselves), `service_tier`, `signature`, and `redacted_thinking`, which only the model that
has written it can read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Json = dict[str, Any]


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
