"""Finds all texts of a request or an answer, for checks and redaction by Guardrails.

The rule is closed: each string is a text, in any field, except for the fields in the tables below with values in the
form that the vendors publish. Fields that are in no table are checked, as well as every string, key and long number in
them. Sources of the fields: the API references of OpenAI (chat completions, completions, embeddings, responses) and
Anthropic (messages).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
Path = tuple[str | int, ...]

_WORD = re.compile(r"[a-z]{1,20}[0-9]{0,4}(?:[_.\-][a-z0-9]{1,20}){0,8}")
"""Short lower-case words, which cannot be a key or an address."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\-]{0,255}")
_LABEL = re.compile(r"[A-Za-z0-9._:@|+/\-]{1,256}")
_TYPE = re.compile(r"[a-z]+/[a-z0-9.+\-]{1,100}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]*={0,2}")
_DATA_URL = re.compile(r"data:([a-z]+/[a-z0-9.+\-]{1,100})?(?:;[a-z0-9=\-]{1,64})*;base64,([A-Za-z0-9+/_\-]*={0,2})")
_ENCODED_LENGTH = 64
"""Length below which base64 without a data: URL counts as text, since keys look the same."""
_LONG = 10**6
"""Digits below which a number identifies nobody: the shortest number in a policy has seven."""

HARMLESS: dict[str, re.Pattern[str]] = {
    # Words of the API, which models do not read.
    **dict.fromkeys(
        ("type", "role", "object", "status", "finish_reason", "native_finish_reason", "stop_reason", "detail",
         "service_tier", "effort", "reasoning_effort", "verbosity", "truncation", "tool_choice", "function_call",
         "phase", "mode", "encoding_format", "format", "reason", "syntax", "ranker", "search_context_size",
         "include", "modalities", "speed", "display", "prompt_cache_retention", "ttl", "allowed_callers",
         "generate_summary", "inference_geo", "size", "quality", "background", "output_format", "retrieved_via"),
        _WORD,
    ),
    # Names of objects elsewhere.
    **dict.fromkeys(
        ("id", "call_id", "tool_call_id", "tool_use_id", "item_id", "response_id", "message_id", "previous_response_id",
         "conversation_id", "container_id", "file_id", "approval_request_id", "system_fingerprint", "request_id",
         "connector_id", "tool_id", "vector_store_id"),
        _ID,
    ),
    "model": _MODEL,
    # Labels of the caller, which the platform reads and no model does.
    **dict.fromkeys(("user", "user_id", "safety_identifier", "prompt_cache_key"), _LABEL),
    "media_type": _TYPE,
    "mime_type": _TYPE,
}  # fmt: skip
"""Fields that are not checked while their value has this form; any other value counts as text."""
OPAQUE = frozenset(
    ("data", "file_data", "image_url", "url", "b64_json", "result", "partial_image_b64", "encrypted_content",
     "encrypted_index", "encrypted_stdout", "signature", "obfuscation", "embedding")
)  # fmt: skip
"""Fields with base64, alone or as a data: URL. Bytes of a text are decoded and checked as one."""
STRUCTURE = frozenset(
    ("messages", "message", "content", "content_block", "delta", "choices", "tools", "tool_calls", "function", "custom",
     "function_call", "tool_choice", "allowed_tools", "image_url", "input_audio", "audio", "file", "annotations",
     "url_citation", "file_citation", "citations", "citation", "input", "output", "summary", "item", "part", "response",
     "reasoning", "text", "format", "response_format", "json_schema", "stream_options", "usage",
     "prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details",
     "incomplete_details", "error", "source", "system", "cache_control", "thinking", "output_config", "prediction",
     "web_search_options",
     "user_location", "approximate", "data", "prompt", "instructions", "reasoning_details", "caller", "definition",
     "grammar", "cache_creation", "server_tool_use")
)  # fmt: skip
"""Fields whose objects have published fields; in all other objects, every string is a text."""
ENCODED = frozenset(("arguments", "partial_json"))
"""Fields whose text is JSON."""
TOKENS = frozenset(("token_ids", "prompt_token_ids", "prompt_logprobs", "kv_transfer_params", "routed_experts"))
"""vLLM's fields that repeat a text in another form."""
_GIVEN_AS_TOKENS = ("prompt", "input")


@dataclass(frozen=True, slots=True)
class Place:
    """One text and its position."""

    path: Path
    text: str
    put: Callable[[str], None]
    """Replaces the text."""


def places(content: Any) -> Iterator[Place]:
    """Every text of a request, an answer or an event. Texts may be replaced only after the walk has ended."""
    if isinstance(content, dict):
        yield from _structured(content, ())
    elif isinstance(content, list):
        yield from _listed(content, (), "", known=False)


def is_answer(path: Path) -> bool:
    """Whether a text is the model's answer, to which a policy's output schema applies: no call, thinking or label."""
    names = tuple(step for step in path if isinstance(step, str))
    return names in _ANSWERS


_ANSWERS = {
    ("choices", "message", "content"),
    ("choices", "message", "content", "text"),
    ("choices", "text"),
    ("output", "content", "text"),
    ("content", "text"),
}


def unreadable(content: Any) -> str | None:
    """The field that contains token IDs instead of text, which cannot be checked; None if there is none."""
    if not isinstance(content, dict):
        return None
    for name in _GIVEN_AS_TOKENS:
        value = content.get(name)
        if isinstance(value, list) and value:
            first = value[0]
            if isinstance(first, int) or (isinstance(first, list) and any(isinstance(one, int) for one in first)):
                return name
    return next((name for name in ("prompt_embeds",) if content.get(name) is not None), None)


def without_probabilities(content: Any) -> None:
    """Remove log-probabilities, which would still contain redacted text token by token."""
    if isinstance(content, dict):
        for name in list(content):
            if name == "logprobs" and not isinstance(content[name], bool | int):
                content[name] = [] if isinstance(content[name], list) else None
            elif name in TOKENS:
                del content[name]
            elif name not in ENCODED:
                without_probabilities(content[name])
    elif isinstance(content, list):
        for one in content:
            without_probabilities(one)


def said_by(logprobs: Any) -> tuple[str, list[str]]:
    """(text that log-probabilities repeat token by token, all other strings in them)."""
    said: list[str] = []
    beside: list[str] = []
    _tokens(logprobs, said, beside)
    return "".join(said), beside


def _tokens(value: Any, said: list[str], beside: list[str]) -> None:
    if isinstance(value, list):
        for one in value:
            _tokens(one, said, beside)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name == "token" and isinstance(one, str):
                said.append(one)
            elif name == "tokens" and isinstance(one, list):
                said += [token for token in one if isinstance(token, str)]
            elif name == "top_logprobs":
                _alternatives(one, beside)
            elif name != "bytes":
                _tokens(one, said, beside)
    elif isinstance(value, str):
        beside.append(value)


def _alternatives(value: Any, beside: list[str]) -> None:
    """Tokens that were not chosen; only long ones can contain information."""
    if isinstance(value, list):
        for one in value:
            _alternatives(one, beside)
    elif isinstance(value, dict):
        names = [value["token"]] if isinstance(value.get("token"), str) else list(value)
        beside += [name for name in names if len(name) >= 7]


# --- objects with published fields -----------------------------------------------------------------


def _structured(holder: Json, path: Path) -> Iterator[Place]:
    for name, value in holder.items():
        if isinstance(value, str):
            if value and not _harmless(name, value):
                yield from _string(holder, name, value, (*path, name))
        elif name == "logprobs" and isinstance(value, dict | list):
            said, beside = said_by(value)
            for text in (said, "\n".join(beside)):
                if text:
                    yield Place((*path, name), text, _remove(holder, name))
        elif isinstance(value, dict):
            if name in STRUCTURE and not (name == "input" or (name in ENCODED)):
                yield from _structured(value, (*path, name))
            else:
                yield from _open(value, (*path, name))
        elif isinstance(value, list):
            yield from _listed(value, (*path, name), name, known=name in STRUCTURE)
    yield from _keys(holder, path)


def _listed(value: list[Any], path: Path, name: str, *, known: bool) -> Iterator[Place]:
    form = HARMLESS.get(name)
    for number, one in enumerate(value):
        here = (*path, number)
        if isinstance(one, str):
            if one and not (form is not None and form.fullmatch(one)):
                yield from _string(value, number, one, here)
        elif isinstance(one, dict):
            yield from _structured(one, here) if known else _open(one, here)
        elif isinstance(one, list):
            yield from _listed(one, here, name, known=known)


def _harmless(name: str, value: str) -> bool:
    form = HARMLESS.get(name)
    return form is not None and form.fullmatch(value) is not None


# --- objects that may hold anything -----------------------------------------------------------------


def _open(value: Any, path: Path) -> Iterator[Place]:
    """Arguments, schemas, metadata, and unpublished fields: each string, key and long number."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _anything(value, name, one, (*path, name))
        yield from _keys(value, path)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _anything(value, number, one, (*path, number))


def _anything(holder: Any, name: Any, value: Any, path: Path) -> Iterator[Place]:
    if isinstance(value, str):
        if value:
            yield from _string(holder, name, value, path)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        if abs(value) >= _LONG:
            yield Place(path, _digits(value), _set(holder, name))
    else:
        yield from _open(value, path)


def _digits(value: float) -> str:
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def _keys(holder: Json, path: Path) -> Iterator[Place]:
    for name in holder:
        if _WORD.fullmatch(name) is None and name:
            yield Place((*path, name), name, _rename(holder, name))


# --- strings ------------------------------------------------------------------------------------------


def _string(holder: Any, name: Any, value: str, path: Path) -> Iterator[Place]:
    """A text. JSON and encoded text are decoded."""
    if name in OPAQUE and (inner := _bytes_of(value)) is not None:
        prefix, text = inner
        if text:
            yield Place(path, text, _encode_again(holder, name, prefix))
        return
    if (name in ENCODED or "\\" in value) and value.lstrip()[:1] in ("{", "["):
        try:
            read = _read(value)
        except (ValueError, RecursionError):
            read = None
        if read is not None:
            found, whole = read
            if not whole:
                holder[name] = _write(found)
            for place in _open(found, path):
                yield Place(place.path, place.text, _through(place.put, holder, name, found))
            return
    yield Place(path, value, _set(holder, name))


def _read(value: str) -> tuple[Any, bool]:
    """(JSON value of a text, whether all of its keys are unique). Raises ValueError, RecursionError."""
    whole = True

    def pairs(found: list[tuple[str, Any]]) -> Json:
        nonlocal whole
        made = dict(found)
        whole = whole and len(made) == len(found)
        return made

    return json.loads(value, object_pairs_hook=pairs), whole


def _write(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _bytes_of(value: str) -> tuple[str, str] | None:
    """(prefix before the base64, text in it or empty if it is none); None if the value is not base64."""
    found = _DATA_URL.fullmatch(value)
    if found is None:
        return ("", "") if len(value) >= _ENCODED_LENGTH and _BASE64.fullmatch(value) else None
    kind, encoded = found[1] or "text/plain", found[2]
    if not (kind.startswith("text/") or kind.endswith(("json", "xml"))):
        return "", ""
    try:
        text = base64.b64decode(encoded.replace("-", "+").replace("_", "/") + "===").decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return value[: found.start(2)], text


def _set(holder: Any, name: Any) -> Callable[[str], None]:
    def put(text: str) -> None:
        holder[name] = text

    return put


def _encode_again(holder: Any, name: Any, prefix: str) -> Callable[[str], None]:
    def put(text: str) -> None:
        holder[name] = prefix + base64.b64encode(text.encode()).decode()

    return put


def _remove(holder: Json, name: str) -> Callable[[str], None]:
    def put(_: str) -> None:
        holder[name] = [] if isinstance(holder[name], list) else None

    return put


def _through(put: Callable[[str], None], holder: Any, name: Any, found: Any) -> Callable[[str], None]:
    def through(text: str) -> None:
        put(text)
        holder[name] = _write(found)

    return through


def _rename(holder: Json, name: str) -> Callable[[str], None]:
    """Rename a key. Values are replaced before keys, so that they are found under the old key."""

    def put(text: str) -> None:
        while text in holder:
            text += "_"
        items = [(text if key == name else key, value) for key, value in holder.items()]
        holder.clear()
        holder.update(items)

    return put
