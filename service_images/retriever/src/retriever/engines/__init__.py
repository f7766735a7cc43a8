"""Vector databases with the passages: one interface, and one module per engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from retriever.filters import Comparison, Compound, Value

EVERYBODY = "*"
"""Reader that stands for the whole tenant."""
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
    """Readers: "user:<id>", "team:<id>", or everybody in the tenant."""
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True)
class Hit:
    """A passage in a search result."""

    id: str
    document: str
    position: int
    content: str
    attributes: dict[str, Value]
    score: float
    """Similarity; higher is nearer."""


@dataclass(frozen=True)
class Scope:
    """Passages that a search may return. The engine itself applies it during the search."""

    tenant: str
    store: str
    readers: tuple[str, ...] | None = None
    """All reader names of the caller; None if the caller may read everything of the tenant."""
    where: Where = None


class Engine(Protocol):
    """An engine."""

    async def prepare(self, dimension: int) -> None:
        """Create missing structures, unless the platform creates them. Raises ApiError(503)."""
        ...

    async def upsert(self, points: Sequence[Point]) -> None:
        """Write passages. Searches find them once this returns."""
        ...

    async def delete(self, tenant: str, store: str, document: str = "") -> None:
        """Delete the passages of a document or of a whole store. Searches miss them once this returns."""
        ...

    async def near(self, scope: Scope, vector: Any, limit: int) -> list[Hit]:
        """The nearest passages, nearest first."""
        ...

    async def worded(self, scope: Scope, query: str, limit: int, vector: Any = None) -> list[Hit]:
        """Passages that contain words of the query, best first; empty if the engine has no keyword search.

        With the query's `vector`, scores are cosines; otherwise they are the engine's keyword scores.
        """
        ...

    def points(self) -> AsyncIterator[list[Point]]:
        """All passages in batches, for a migration."""
        ...

    async def count(self) -> int:
        """Number of passages."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
