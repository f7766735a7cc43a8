"""Whether the services answer."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from portal.gateway import Answer, Reader
from portal.topology import Part


@dataclass(frozen=True)
class Health:
    """Whether a service answers."""

    part: Part
    answer: Answer | None
    """Answer to a request. None: nothing was asked, since the service has no document."""

    @property
    def state(self) -> str:
        """The state, in a word or two."""
        if self.answer is None:
            return "not known"
        if self.answer.ok:
            return "answers"
        return "does not answer" if self.answer.away else f"refuses ({self.answer.status})"

    @property
    def good(self) -> bool | None:
        """Whether all is well. None: not known."""
        return None if self.answer is None else self.answer.ok


async def health(api: Reader, without: Container[str] = ()) -> list[Health]:
    """Asks each service for its document, which needs no key, except those `without`, which are asked otherwise."""
    asked = [part for part in api.gateway.parts if part.document and part.name not in without]
    found = await api.probe([f"/openapi/{one.name}.json" for one in asked])
    answers = {part.name: answer for part, answer in zip(asked, found, strict=True)}
    return [Health(part, answers.get(part.name)) for part in api.gateway.parts]
