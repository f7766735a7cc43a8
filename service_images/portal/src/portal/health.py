"""Whether the services answer."""

from __future__ import annotations

from dataclasses import dataclass

from portal.gateway import Answer, Reader
from portal.topology import Part


@dataclass(frozen=True)
class Health:
    """Whether a service answers."""

    part: Part
    answer: Answer | None
    """Answer to a request for its document. None: the service has none, so nothing was asked."""

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


async def health(api: Reader) -> list[Health]:
    """Asks each service for its document, which needs no key."""
    parts = api.gateway.parts
    asked = [part for part in parts if part.document]
    answers = dict(
        zip((part.name for part in asked), await api.probe([f"/openapi/{one.name}.json" for one in asked]), strict=True)
    )
    return [Health(part, answers.get(part.name)) for part in parts]
