"""Parameters of a request: the Router handles, forwards or refuses each of them. None is ignored silently.

The tables contain OpenAI's published parameters per path, and vLLM's extensions, which are forwarded. Unknown and
unsupported parameters are refused. null is equal to a missing parameter.
Sources: OpenAI, API reference; vLLM, "OpenAI-Compatible Server", "Extra parameters".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, cast

import msgspec
from kit.errors import ApiError
from msgspec import Meta, Raw

from router import usage

Json = dict[str, Any]
_Text = Annotated[str, Meta(max_length=256)]
_Whole = Annotated[int, Meta(ge=0, le=1_000_000)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Temperature = Annotated[float, Meta(ge=0, le=2)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_EXTENSIONS = (
    "top_k", "min_p", "repetition_penalty", "length_penalty", "stop_token_ids", "include_stop_str_in_output",
    "ignore_eos", "min_tokens", "skip_special_tokens", "spaces_between_special_tokens", "truncate_prompt_tokens",
    "prompt_logprobs", "allowed_token_ids", "bad_words", "add_special_tokens", "structured_outputs", "guided_json",
    "guided_regex", "guided_choice", "guided_grammar", "priority", "cache_salt", "vllm_xargs",
    "return_tokens_as_token_ids", "return_token_ids", "use_beam_search", "thinking_token_budget",
)  # fmt: skip
_CHAT_EXTENSIONS = (
    "echo", "add_generation_prompt", "continue_final_message", "documents", "chat_template_kwargs",
    "mm_processor_kwargs", "include_reasoning", "best_of",
)  # fmt: skip
_INSTEAD = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "web_search_options": "no model searches the web",
    "audio": "no model generates audio",
    "prediction": "no model supports predicted outputs",
    "moderation": "Guardrails checks requests by the tenant's policy",
    "previous_response_id": "responses are not stored; send earlier messages in input",
    "conversation": "conversations are not stored; send earlier messages in input",
    "background": "requests are processed immediately",
    "store": "responses are not stored; leave it out or send false",
    "thinking": "use reasoning_effort, or reasoning in /v1/responses",
    "suffix": "no model supports insertion",
    "chat_template": "the model defines its template",
}
"""Alternatives to refused parameters."""


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.\-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Function


class _FlatTool(_Function, forbid_unknown_fields=True, kw_only=True):
    type: Literal["function"]


class _Schema(msgspec.Struct, forbid_unknown_fields=True):
    name: _Text
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _FlatFormat(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    name: _Text | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _TextConfig(msgspec.Struct, forbid_unknown_fields=True):
    format: _FlatFormat | None = None
    verbosity: Literal["medium"] | None = None


class _Reasoning(msgspec.Struct, forbid_unknown_fields=True):
    effort: _Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


_StreamOption = Literal["include_usage", "include_obfuscation", "continuous_usage_stats"]


class _StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


_SHARED: Json = {
    "model": str,
    "stream": bool | None,
    "stream_options": _StreamOptions | None,
    "temperature": _Temperature | None,
    "top_p": _Share | None,
    "user": str | None,
}
_COMPLETION: Json = {
    **_SHARED,
    "n": Annotated[int, Meta(ge=1, le=128)] | None,
    "stop": str | list[str] | None,
    "max_tokens": _Whole | None,
    "presence_penalty": _Penalty | None,
    "frequency_penalty": _Penalty | None,
    "logit_bias": dict[str, float] | None,
    "seed": int | None,
    **dict.fromkeys(_EXTENSIONS, Raw),
}
_ANY: Json = {
    "metadata": dict[str, Any] | None,
    "safety_identifier": _Text | None,
    "prompt_cache_key": _Text | None,
    "prompt_cache_retention": str | None,
    "service_tier": Literal["auto", "default"] | None,
    "store": Literal[0] | None,
    "parallel_tool_calls": bool | None,
    "tool_choice": Raw,
    "prompt": Raw,
}
FIELDS: dict[bytes, Json] = {
    b"/v1/chat/completions": {
        **_COMPLETION,
        **_ANY,
        "messages": Raw,
        "max_completion_tokens": _Whole | None,
        "logprobs": bool | None,
        "top_logprobs": Annotated[int, Meta(ge=0, le=20)] | None,
        "tools": list[_Tool] | None,
        "response_format": _Format | None,
        "reasoning_effort": _Effort | None,
        "modalities": list[Literal["text"]] | None,
        "verbosity": Literal["medium"] | None,
        **dict.fromkeys(_CHAT_EXTENSIONS, Raw),
    },
    b"/v1/completions": {
        **_COMPLETION,
        "prompt": Raw,
        "suffix": Literal[""] | None,
        "logprobs": Annotated[int, Meta(ge=0, le=20)] | None,
        "echo": bool | None,
        "best_of": Annotated[int, Meta(ge=1, le=20)] | None,
        "response_format": _Format | None,
    },
    b"/v1/embeddings": {
        "model": str,
        "input": Raw,
        "encoding_format": Literal["float", "base64"] | None,
        "dimensions": Annotated[int, Meta(ge=1, le=65_536)] | None,
        "user": str | None,
        **dict.fromkeys(("truncate_prompt_tokens", "add_special_tokens", "priority"), Raw),
    },
    b"/v1/responses": {
        **_SHARED,
        **_ANY,
        "input": Raw,
        "instructions": str | None,
        "max_output_tokens": _Whole | None,
        "max_tool_calls": Annotated[int, Meta(ge=1)] | None,
        "top_logprobs": Annotated[int, Meta(ge=0, le=20)] | None,
        "tools": list[_FlatTool] | None,
        "text": _TextConfig | None,
        "reasoning": _Reasoning | None,
        "include": list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None,
        "truncation": Literal["disabled"] | None,
        "background": Literal[0] | None,
        **dict.fromkeys(("previous_response_id", "conversation"), None),
        **dict.fromkeys(("top_k", "priority", "cache_salt"), Raw),
    },
}
"""Accepted parameters by path, with their values."""


def _decoder(path: bytes, names: Iterable[str]) -> Any:
    """Decoder that reads these parameters in one pass, and refuses all others."""
    # False and 0 are different in JSON: `_NEVER` says what must be false.
    kinds = {name: bool | None if FIELDS[path][name] == Literal[0] | None else FIELDS[path][name] for name in names}
    listed = [(name, kind, None) for name, kind in kinds.items()]
    made = msgspec.defstruct(path.decode().replace("/", "_"), listed, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(made).decode


_NEVER = ("store", "background")
_CHAT = b"/v1/chat/completions"


class _Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Common parameters only: most requests are validated and read at once, in a third of the time."""

    model: str
    messages: Raw = Raw(b"")
    stream: bool | None = None
    stream_options: dict[_StreamOption, bool | None] | None = None
    max_tokens: _Whole | None = None
    max_completion_tokens: _Whole | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None
    user: str | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    # Other fields of an `Ask`, which these requests do not have.
    prompt: ClassVar[Raw] = Raw(b"")
    input: ClassVar[Raw] = Raw(b"")
    max_output_tokens: ClassVar[None] = None
    metadata: ClassVar[None] = None
    n: ClassVar[None] = None
    best_of: ClassVar[None] = None
    output_tokens = usage.Ask.output_tokens
    answers = usage.Ask.answers


_usual = msgspec.json.Decoder(_Usual).decode
_decoders = {path: _decoder(path, fields) for path, fields in FIELDS.items()}
_AT = re.compile(r" - at `\$\.?([^`]*)`")
_ITEMS = {"message", "function_call", "function_call_output", "reasoning"}


def check(path: bytes, body: bytes) -> usage.Ask | None:
    """Raises ApiError with all unsupported parameters; `payload.read` refuses bodies that are not objects.

    Returns the Ask if the request has only common parameters; None if it must be read otherwise.
    """
    if path == _CHAT:
        try:
            return cast("usage.Ask", _usual(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    _check_all(path, body)
    return None


def _check_all(path: bytes, body: bytes) -> None:
    try:
        found = _decoders[path](body)
    except (msgspec.ValidationError, UnicodeDecodeError):
        _refuse(path, body)
        return
    except (msgspec.DecodeError, RecursionError):
        return
    for name in _NEVER:
        if getattr(found, name, None):
            _refuse(path, body)
    if path == b"/v1/responses":
        _check_items(found.input)
    tools = getattr(found, "tools", None)
    choice = getattr(found, "tool_choice", None)
    if choice is not None:
        _check_choice(choice, tools or [])


def _check_choice(raw: Raw, tools: list[Any]) -> None:
    choice = msgspec.json.decode(raw)
    if choice is None or choice == "auto" or choice == "none":
        return
    names = {getattr(tool, "name", None) or tool.function.name for tool in tools}
    wanted = choice.get("function", choice) if isinstance(choice, dict) and choice.get("type") == "function" else None
    if choice != "required" and not (isinstance(wanted, dict) and isinstance(wanted.get("name"), str)):
        raise _wrong("tool_choice", 'none, auto, required, or {"type": "function", ...} with the name of a tool')
    if choice == "required" and not tools:
        raise _wrong("tool_choice", "required needs at least one entry of tools")
    if isinstance(wanted, dict) and wanted["name"] not in names:
        raise _wrong("tool_choice", f"no tool has the name {wanted['name'][:128]!r}")


def _check_items(raw: Raw | None) -> None:
    """Check that a model can read each kind of item in the input of a response."""
    given = msgspec.json.decode(raw) if raw is not None else None
    for number, item in enumerate(given if isinstance(given, list) else ()):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        if kind is not None and kind not in _ITEMS:
            raise _wrong(
                f"input.{number}.type", f"{str(kind)[:64]!r} is not supported; {', '.join(sorted(_ITEMS))} are"
            )


def _wrong(field: str, text: str) -> ApiError:
    return ApiError(400, f"{field}: {text}", param=field, code="invalid_value")


def _refuse(path: bytes, body: bytes) -> None:
    """Check each parameter separately, so that the error names all mistakes."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if not isinstance(content, dict):
        return
    mistakes: list[tuple[str, str, str]] = []
    for name, value in content.items():
        if name not in FIELDS[path]:
            if value is not None:
                mistakes.append((name, _instead(name, "is not a parameter of this path"), "unknown_parameter"))
            continue
        if (name in _NEVER and value in (False, None)) or FIELDS[path][name] is Raw:
            continue
        try:
            msgspec.convert(value, FIELDS[path][name])
        except msgspec.ValidationError as error:
            where = _AT.search(text := str(error))
            inner = where[1].replace("[", ".").replace("]", "").strip(".") if where else ""
            field = f"{name}.{inner}" if inner else name
            code = "unsupported_value" if name in _INSTEAD else "invalid_value"
            mistakes.append((field, _instead(name, _AT.sub("", text)), code))
    if not mistakes:
        return
    shown = "; ".join(f"{field[:128]}: {text}" for field, text, _ in mistakes[:20])
    raise ApiError(400, shown, param=mistakes[0][0][:128], code=mistakes[0][2])


def _instead(name: str, otherwise: str) -> str:
    return f"is not supported: {_INSTEAD[name]}" if name in _INSTEAD else otherwise
