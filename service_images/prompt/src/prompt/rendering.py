"""From a version and variables to a text: what it includes is looked up, variables are checked, the answer is kept."""

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
"""Includes within includes."""
KEPT_S = 3600
_LONGEST = 4000
"""Characters of an error's message."""
PROCESSES = 2
LIMITS = Limits(memory_mb=64, cpu_s=5, wall_s=30, input_mb=16, answer_mb=16)
"""Of one check or rendering. A full budget of work takes 1 s, and the largest template 30 MB (measured)."""
MAX_PARTS = 100
"""Prompts that one prompt includes, through others or itself."""
MAX_CHARACTERS = limits.TEMPLATES.most
"""Characters of the templates of a version, with all that it includes."""
_encode = msgspec.json.Encoder(order="deterministic").encode


def problem(message: str, param: str = "prompt") -> ApiError:
    """The answer to a template that cannot be rendered."""
    return ApiError(400, f"{param}: {message}", param=param, code="invalid_template")


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
                raise problem(f"{' -> '.join((*path, name))} is a circle")
            if len(path) > DEPTH:
                raise problem(f"includes go deeper than {DEPTH}")
            if reference in found:
                continue
            if len(found) >= MAX_PARTS:
                raise problem(f"it includes more than {MAX_PARTS} prompts; put some of them together")
            # A number that no version can have is none of them.
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
                raise problem(f"with all that it includes, it has more than {MAX_CHARACTERS} characters; shorten it")
            await gather(more, (*path, name))

    await gather(includes, (version.name,))
    return found, numbers


class Renderer:
    """Checks and renders templates in worker processes, or finds what was rendered before."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._workers = Workers("templates", PROCESSES, LIMITS, preload=("prompt.job",))

    async def close(self) -> None:
        """End the processes."""
        await self._workers.close()

    async def check(self, tenant: str, wanted: NewVersion) -> list[str]:
        """What a new version includes. Raises ApiError(400) with all that keeps it from ever being rendered."""
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
        """A version with what `closure` found; and whether it was kept: the same input gives the same text.

        Raises ApiError(400) with every variable that is wrong or missing, or with what the template does wrong.
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
    """The label that a user gets: always the same, as long as the weights are."""
    digest = hashlib.sha256(f"{name}\0{split}\0{user}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64 * sum(weights.values())
    for label, weight in sorted(weights.items()):
        point -= weight
        if point < 0:
            return label
    return max(weights)
