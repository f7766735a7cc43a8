"""From a version and variables to a text: what it includes is looked up, variables are checked, the answer is kept."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any

import jsonschema
import msgspec
import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import extend
from kit.cache import Cache
from kit.database import Connection
from kit.errors import ApiError

from prompt import sandbox, store
from prompt.models import Kind, Message, NewVersion, Rendered, Version
from prompt.sandbox import TemplateProblem

DEPTH = 8
"""Includes within includes."""
KEPT_S = 3600
_REFERENCE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._/-]{0,127})@([a-z0-9][a-z0-9._-]{0,62})")
_encode = msgspec.json.Encoder(order="deterministic").encode


def _pattern(_: Any, pattern: Any, instance: Any, __: Any) -> Any:
    """Patterns are matched in linear time, whatever they are."""
    if isinstance(instance, str) and not re2.compile(pattern).search(instance):
        yield jsonschema.ValidationError(f"it does not match {pattern!r}")


_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern, "patternProperties": None})


def problem(error: TemplateProblem, param: str = "prompt") -> ApiError:
    """The answer to who sends a template, or variables, that do not work."""
    return ApiError(400, f"{param}: {error}", param=param, code="invalid_template")


def check(wanted: NewVersion) -> list[str]:
    """What a new version includes. Raises ApiError(400) for one that could never be rendered."""
    if (wanted.type is Kind.TEXT) != isinstance(wanted.prompt, str):
        raise ApiError(400, "prompt: a text for the type text, a list of messages for chat", param="prompt")
    try:
        found = {name for source in sources(wanted.prompt) for name in sandbox.includes(source)}
        for name in sorted(found):
            if not _REFERENCE.fullmatch(name):
                raise TemplateProblem(f'include "{name}": write it as "name@label" or "name@3"')
    except TemplateProblem as error:
        raise problem(error) from None
    for name, schema in wanted.variables.items():
        try:
            _Validator.check_schema(schema)
            for pattern in _patterns(schema):
                re2.compile(pattern)
        except (SchemaError, re2.error) as error:
            reason = error.message if isinstance(error, SchemaError) else f"the pattern is not RE2's: {error}"
            raise ApiError(400, f"variables.{name}: {reason}"[:500], param=f"variables.{name}") from None
        if "$ref" in _encode(schema).decode():
            raise ApiError(400, f"variables.{name}: $ref is not possible", param=f"variables.{name}")
    return sorted(found)


def _patterns(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
        return own + [p for value in schema.values() for p in _patterns(value)]
    return [p for value in schema for p in _patterns(value)] if isinstance(schema, list) else []


def sources(prompt: str | Any) -> list[str]:
    """The templates of a prompt."""
    return [prompt] if isinstance(prompt, str) else [message.content for message in prompt]


async def closure(
    connection: Connection, tenant: str, version: Version, includes: list[str]
) -> tuple[dict[str, str], list[str]]:
    """All that a version includes, by reference, and "name@number" of each. Raises ApiError."""
    found: dict[str, str] = {}
    numbers = [f"{version.name}@{version.version}"]

    async def gather(wanted: list[str], path: tuple[str, ...]) -> None:
        for reference in wanted:
            name, _, which = reference.rpartition("@")
            if name in path:
                raise problem(TemplateProblem(f"{' -> '.join((*path, name))} is a circle"))
            if len(path) > DEPTH:
                raise problem(TemplateProblem(f"includes go deeper than {DEPTH}"))
            if reference in found:
                continue
            number = {"version": int(which)} if which.isdigit() else {"label": which}
            try:
                part, more = await store.read(connection, tenant, name, **number)  # pyright: ignore[reportArgumentType]
            except ApiError:
                raise problem(TemplateProblem(f'include "{reference}": there is no such version')) from None
            if not isinstance(part.prompt, str):
                raise problem(TemplateProblem(f'include "{reference}": a chat cannot be included'))
            found[reference] = part.prompt
            numbers.append(f"{reference}={part.version}")
            await gather(more, (*path, name))

    await gather(includes, (version.name,))
    return found, numbers


def validate(version: Version, variables: dict[str, Any]) -> None:
    """Raises ApiError(400) with every variable that is wrong or missing."""
    wrong: list[str] = []
    for name, schema in sorted(version.variables.items()):
        if name not in variables:
            if isinstance(schema, dict) and "default" in schema:
                variables[name] = schema["default"]
            continue
        error = next(iter(_Validator(schema).iter_errors(variables[name])), None)
        if error is not None:
            wrong.append(f"{'.'.join(map(str, (name, *error.absolute_path)))}: {error.message[:200]}")
    missing = {n for source in sources(version.prompt) for n in sandbox.variables(source)} - variables.keys() - {"range", "dict", "namespace"}  # fmt: skip # noqa: E501
    wrong += [f"{name}: it is missing" for name in sorted(missing)]
    if wrong:
        raise ApiError(400, f"variables: {'; '.join(wrong)}", param="variables", code="invalid_variables")


class Renderer:
    """Renders, or finds what was rendered before."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def render(
        self,
        connection: Connection,
        tenant: str,
        version: Version,
        includes: list[str],
        label: str,
        variables: dict[str, Any],
    ) -> Rendered:
        """The same versions and variables give the same text."""
        parts, numbers = await closure(connection, tenant, version, includes)
        digest = hashlib.sha256(_encode([tenant, numbers, variables])).hexdigest()
        (kept,) = await self._cache.get(digest)
        answer = {"name": version.name, "version": version.version, "label": label, "type": version.type}
        if kept is not None:
            return Rendered(**answer, prompt=_decoded(kept), config=version.config, cached=True)
        validate(version, variables)
        try:
            texts = await asyncio.to_thread(_render, sources(version.prompt), parts, variables)
        except TemplateProblem as error:
            raise problem(error) from None
        prompt: str | list[Message] = texts[0]
        if not isinstance(version.prompt, str):
            prompt = [Message(role=m.role, content=t) for m, t in zip(version.prompt, texts, strict=True)]
        content = prompt if isinstance(prompt, str) else [m.model_dump() for m in prompt]
        await self._cache.put({digest: _encode(content)}, KEPT_S)
        return Rendered(**answer, prompt=prompt, config=version.config)


def _decoded(kept: bytes) -> str | list[Message]:
    content = msgspec.json.decode(kept)
    return content if isinstance(content, str) else [Message(**message) for message in content]


def _render(texts: list[str], parts: dict[str, str], variables: dict[str, Any]) -> list[str]:
    # "\0" begins no reference, so that no included name can be the template itself.
    return [sandbox.render({**parts, "\0": text}, "\0", variables) for text in texts]


def chosen(weights: dict[str, float], split: str, name: str, user: str) -> str:
    """The label that a user gets: always the same, as long as the weights are."""
    digest = hashlib.sha256(f"{name}\0{split}\0{user}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64 * sum(weights.values())
    for label, weight in sorted(weights.items()):
        point -= weight
        if point < 0:
            return label
    return max(weights)
