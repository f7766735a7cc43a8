"""Translates requests of Anthropic's Messages API to chat completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from kit.errors import ApiError
from pydantic import ValidationError

from router.anthropic_schema import (
    Base64Source,
    Counted,
    Document,
    Image,
    Message,
    Request,
    SearchResult,
    Text,
    TextSource,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
    UrlSource,
)

Json = dict[str, Any]
EFFORTS = ((4096, "low"), (16_384, "medium"))
"""Budgets of thinking tokens up to which the effort is low or medium. OpenAI's API knows efforts only."""

# --- validation errors ------------------------------------------------------------------------------

_BLOCKS = frozenset(
    ("text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result")
)
_SOURCES = frozenset(("base64", "url", "text", "content"))


def _path(loc: tuple[int | str, ...]) -> str:
    """Path of a field, without the names that pydantic adds for the types of a block."""
    kept: list[str] = []
    for number, step in enumerate(loc):
        before = loc[number - 1] if number else ""
        if (step in _BLOCKS and isinstance(before, int)) or (step in _SOURCES and before == "source"):
            continue
        kept.append("schema" if step == "schema_" else str(step))
    return ".".join(kept)


def refusal(error: ValidationError) -> ApiError:
    """One error for all mistakes. `param` is the field of the first one."""
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
    """The parts of a message, from its blocks."""
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
    """Plain text if all parts are text, otherwise the parts."""
    return parts if any(part["type"] != "text" for part in parts) else "".join(part["text"] for part in parts)


def _result(block: ToolResult) -> tuple[Json, list[Json]]:
    """(message of a tool, parts that follow it): in chat completions, a tool answers with text only."""
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
    """Messages of one turn. Each tool result is a message of its own in chat completions."""
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
    """OpenAI's reasoning effort; None if the model decides."""
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
        # The client begins the answer. vLLM continues it with these parameters.
        chat["continue_final_message"], chat["add_generation_prompt"] = True, False
    return chat


def request(body: bytes) -> bytes:
    """Translate a Messages request to a chat completion. Raises ApiError with all invalid fields."""
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
    """Translate a count_tokens request to a chat completion. Raises ApiError with all invalid fields."""
    return _chat(_read(Counted, body))


def _read(kind: Any, body: bytes) -> Any:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None
