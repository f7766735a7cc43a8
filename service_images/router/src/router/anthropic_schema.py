"""Supported part of requests of Anthropic's Messages API. Other fields are refused by name.

Source: https://docs.anthropic.com/en/api/messages, version 2023-06-01; the types are those of Anthropic's client.
Some fields without a counterpart are accepted, since they do not change the answer: `cache_control` (servers cache
prefixes of prompts on their own), `service_tier`, `signature`, and `redacted_thinking`, which only the model that wrote
it can read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Json = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CacheControl(_Part):
    """Accepted without effect: servers cache prefixes of prompts on their own."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Block(_Part):
    cache_control: CacheControl | None = None


def _blocks(value: Any) -> Any:
    """Expand a text to a list with one block."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class Text(_Block):
    """A text."""

    type: Literal["text"]
    text: str
    citations: Annotated[list[Any], Field(max_length=0)] | None = None


class Base64Source(_Part):
    """Bytes of an image or a PDF."""

    type: Literal["base64"]
    media_type: str
    data: str


class UrlSource(_Part):
    """URL of an image."""

    type: Literal["url"]
    url: str


class TextSource(_Part):
    """A document of plain text."""

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
    """Whether the answer should cite; no model here can."""

    enabled: Literal[False] | None = None


class Document(_Block):
    """A document: text, blocks, or a PDF in base64."""

    type: Literal["document"]
    source: Annotated[Base64Source | TextSource | ContentSource, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None


class SearchResult(_Block):
    """A search result."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[Text]
    citations: Citations | None = None


class Thinking(_Part):
    """Thinking of the model, from an earlier answer."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinking(_Part):
    """Thinking that only the model which wrote it can read."""

    type: Literal["redacted_thinking"]
    data: str


class Caller(_Part):
    """Caller of a tool."""

    type: Literal["direct"]


class ToolUse(_Block):
    """The model's call of a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Json
    caller: Caller | None = None


Result = Annotated[Text | Image | SearchResult | Document, Field(discriminator="type")]


class ToolResult(_Block):
    """Result of a tool call."""

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
                raise ValueError(f"content.{number}: a block of type {block.type} is not allowed for the {self.role}")
        return self


class Tool(_Block):
    """A tool of the client. Tools that run on the server are not supported."""

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
    """Whether the model must call a tool."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _named(self) -> ToolChoice:
        if (self.type == "tool") != bool(self.name):
            raise ValueError('set name with the type "tool", and only with this type')
        return self


class Metadata(_Part):
    """Metadata about the caller."""

    user_id: str | None = Field(None, max_length=256)


class ThinkingConfig(_Part):
    """How much the model should think."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(None, ge=1024)
    display: Literal["summarized"] | None = None

    @model_validator(mode="after")
    def _budgeted(self) -> ThinkingConfig:
        if (self.type == "enabled") != (self.budget_tokens is not None):
            raise ValueError('budget_tokens is allowed with the type "enabled" only')
        return self


class OutputFormat(_Part):
    """JSON Schema of the answer."""

    type: Literal["json_schema"]
    schema_: Json = Field(alias="schema")


class OutputConfig(_Part):
    """Format of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Counted(_Part):
    """Fields that count_tokens accepts: those of a request that do not only concern its answer."""

    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1)
    system: Annotated[list[Text], BeforeValidator(_blocks)] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None


class Request(Counted):
    """A Messages request."""

    max_tokens: int = Field(ge=1, le=1_000_000)
    stop_sequences: list[str] | None = Field(None, max_length=64)
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard"] | None = None
