"""Renders a version with variables: resolves includes, checks variables, and caches results."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
from kit import limits
from kit.cache import Cache
from kit.database import Connection
from kit.errors import ApiError
from kit.workers import Limits, Workers

from prompt import job, store
from prompt.models import MAX_NUMBER, REFERENCE, Kind, Message, NewVersion, Version

DEPTH = 8
"""Most levels of nested includes."""
KEPT_S = 3600
_LONGEST = 4000
"""Most characters of an error message."""
PROCESSES = 2
LIMITS = Limits(memory_mb=64, cpu_s=5, wall_s=30, input_mb=16, answer_mb=16)
"""Limits of one check or rendering. The full work budget takes 1 s, and the largest template 30 MB (measured)."""
MAX_PARTS = 100
"""Most prompts that one prompt includes, directly or indirectly."""
MAX_CHARACTERS = limits.TEMPLATES.most
"""Most characters of a version's templates, includes included."""
_encode = msgspec.json.Encoder(order="deterministic").encode


def problem(message: str, param: str = "prompt") -> ApiError:
    """The error for a template that cannot be rendered."""
    return ApiError(400, f"{param}: {message}", param=param, code="invalid_template")


def sources(prompt: str | Any) -> list[str]:
    """Template texts of a prompt."""
    return [prompt] if isinstance(prompt, str) else [message.content for message in prompt]


async def closure(
    connection: Connection, tenant: str, version: Version, includes: list[str]
) -> tuple[dict[str, str], list[str]]:
    """All included templates by reference, and "name@number" of each. Raises ApiError."""
    found: dict[str, str] = {}
    numbers = [f"{version.name}@{version.version}"]

    async def gather(wanted: list[str], path: tuple[str, ...]) -> None:
        for reference in wanted:
            name, _, which = reference.rpartition("@")
            if name in path:
                raise problem(f"{' -> '.join((*path, name))} is a cycle")
            if len(path) > DEPTH:
                raise problem(f"includes are nested deeper than {DEPTH} levels")
            if reference in found:
                continue
            if len(found) >= MAX_PARTS:
                raise problem(f"it includes more than {MAX_PARTS} prompts; combine some of them")
            # A number beyond the range of versions does not exist.
            number: dict[str, Any] = {"version": min(int(which), MAX_NUMBER)} if which.isdigit() else {"label": which}
            try:
                part, more = await store.read(connection, tenant, name, **number)
            except ApiError:
                raise problem(f'include "{reference}": there is no such version') from None
            if not isinstance(part.prompt, str):
                raise problem(f'include "{reference}": a chat cannot be included')
            found[reference] = part.prompt
            numbers.append(f"{reference}={part.version}")
            characters = sum(map(len, (*found.values(), *sources(version.prompt))))
            if characters > MAX_CHARACTERS:
                raise problem(f"with its includes, it has more than {MAX_CHARACTERS} characters; shorten it")
            await gather(more, (*path, name))

    await gather(includes, (version.name,))
    return found, numbers


class Renderer:
    """Checks and renders templates in worker processes, with a cache of results."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._workers = Workers("templates", PROCESSES, LIMITS, preload=("prompt.job",))

    async def close(self) -> None:
        """Stop the worker processes."""
        await self._workers.close()

    async def check(self, tenant: str, wanted: NewVersion) -> list[str]:
        """Includes of a new version. Raises ApiError(400) with all problems that make rendering impossible."""
        if (wanted.type is Kind.TEXT) != isinstance(wanted.prompt, str):
            raise ApiError(400, "prompt: a text for the type text, a list of messages for chat", param="prompt")
        found = await self._workers.call(tenant, job.check, sources(wanted.prompt), wanted.variables)
        includes: list[str] = found["includes"]
        problems = [f"{path}: {message}" for path, message in found["problems"]]
        problems += [
            f'prompt: include "{name}": write it as "name@label" or "name@3"'
            for name in includes
            if not REFERENCE.fullmatch(name)
        ]
        if problems:
            param = problems[0].partition(":")[0]
            raise ApiError(400, "; ".join(problems)[:_LONGEST], param=param, code="invalid_template")
        return includes

    async def render(
        self, tenant: str, version: Version, parts: dict[str, str], numbers: list[str], variables: dict[str, Any]
    ) -> tuple[str | list[Message], bool]:
        """Render a version with its includes from `closure`. Returns the text and whether it came from the cache.

        Raises ApiError(400) with all missing or invalid variables, or with the template's problem.
        """
        given = json.dumps([tenant, numbers, variables], sort_keys=True)
        digest = hashlib.sha256(given.encode()).hexdigest()
        (kept,) = await self._cache.get(digest)
        if kept is not None:
            return _decoded(kept), True
        found = await self._workers.call(
            tenant, job.render, sources(version.prompt), parts, variables, version.variables
        )
        if wrong := found.get("variables"):
            message = f"variables: {'; '.join(wrong)}"[:_LONGEST]
            raise ApiError(400, message, param="variables", code="invalid_variables")
        if "template" in found:
            raise problem(found["template"])
        texts: list[str] = found["texts"]
        prompt: str | list[Message] = texts[0]
        if not isinstance(version.prompt, str):
            prompt = [Message(role=m.role, content=t) for m, t in zip(version.prompt, texts, strict=True)]
        content = prompt if isinstance(prompt, str) else [m.model_dump() for m in prompt]
        await self._cache.put({digest: _encode(content)}, KEPT_S)
        return prompt, False


def _decoded(kept: bytes) -> str | list[Message]:
    content = msgspec.json.decode(kept)
    return content if isinstance(content, str) else [Message(**message) for message in content]


def chosen(weights: dict[str, float], split: str, name: str, user: str) -> str:
    """The label for a user. It stays the same while the weights stay the same."""
    digest = hashlib.sha256(f"{name}\0{split}\0{user}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64 * sum(weights.values())
    for label, weight in sorted(weights.items()):
        point -= weight
        if point < 0:
            return label
    return max(weights)
