"""Where passages and their vectors are: one interface, four engines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from retriever.filters import Comparison, Compound, Value

EVERYBODY = "*"
"""Reader of what the whole tenant may read."""
Where = Comparison | Compound | None


@dataclass(frozen=True)
class Point:
    """A passage."""

    id: str
    tenant: str
    store: str
    document: str
    position: int
    content: str
    vector: Any
    readers: tuple[str, ...] = (EVERYBODY,)
    """Who may read it: "user:<id>", "team:<id>", or everybody."""
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True)
class Hit:
    """A passage that was found."""

    id: str
    document: str
    position: int
    content: str
    attributes: dict[str, Value]
    score: float
    """The more the nearer."""


@dataclass(frozen=True)
class Scope:
    """What a search may see at all: applied by the engine itself, within the search."""

    tenant: str
    store: str
    readers: tuple[str, ...] | None = None
    """Who asks, in all names; None: whoever sees everything of the tenant."""
    where: Where = None


class Engine(Protocol):
    """An engine."""

    async def prepare(self, dimension: int) -> None:
        """Make what is needed, if it is not there; nothing where the platform has made it. Raises ApiError(503)."""
        ...

    async def upsert(self, points: Sequence[Point]) -> None:
        """Write passages; they are found once this returns."""
        ...

    async def delete(self, tenant: str, store: str, document: str = "") -> None:
        """Take a document's passages away, or a whole store's; none is found once this returns."""
        ...

    async def near(self, scope: Scope, vector: Any, limit: int) -> list[Hit]:
        """The nearest passages, the nearest first."""
        ...

    async def worded(self, scope: Scope, query: str, limit: int, vector: Any = None) -> list[Hit]:
        """Passages with the query's words, the best first; none where the engine knows no words.

        With the query's `vector` their scores are cosines, else what the engine orders words by.
        """
        ...

    def points(self) -> AsyncIterator[list[Point]]:
        """Everything, in batches, for a migration."""
        ...

    async def count(self) -> int:
        """Passages that there are."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
