"""Access rights to files, stores and passages.

Searches find a passage for its readers. A file's owner is its uploader, and a store's owner is its creator. A file is
visible to its owner, to the readers that the owner named, and to holders of the relation `viewer`. Changes need the
owner or the relation `editor`; deletion needs the owner or the relation `owner`. Keys with the scope `manage` and
without a user, and operators, have all rights in their tenant. Stores are visible to the whole tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kit.directory import bearer
from kit.errors import ApiError, ErrorType, missing
from kit.rest import Call

from retriever.engines import EVERYBODY
from retriever.searching import Readers
from retriever.tables import Query

Relation = Literal["viewer", "editor", "owner"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Rights:
    """Rights of one caller for one request."""

    actor: str
    names: tuple[str, ...] | None
    """Reader names of the caller; None if the caller may read everything of the tenant."""
    readers: Readers
    call: Call[Any, Any]

    @classmethod
    async def of(cls, readers: Readers, call: Call[Any, Any]) -> Rights:
        """Look up a caller's rights. Raises ApiError(503) if User is unavailable."""
        names = await readers.of(call.caller, bearer(call.request.headers))
        return cls(call.caller.actor, names, readers, call)

    async def _related(self, relation: Relation, kind: str, name: str) -> bool:
        if not self.call.caller.user:
            return False
        key = bearer(self.call.request.headers)
        return await self.readers.related(self.call.caller, key, relation, f"{kind}:{name}")

    async def files(self, query: Query) -> Query:
        """Restrict a query of files `d` to those that the caller sees."""
        if self.names is None:
            return query
        more = await self.readers.viewed(self.call.caller, bearer(self.call.request.headers))
        condition = "(d.owner = %(actor)s OR d.readers && %(names)s::text[] OR d.id = ANY(%(viewed)s))"
        return query.where(condition, actor=self.actor, names=list(self.names), viewed=more)

    def store_files(self, query: Query) -> Query:
        """Restrict a query of files `f` in a store to the caller's own, and those with readable passages."""
        if self.names is None:
            return query
        condition = "(d.owner = %(actor)s OR f.readers && %(names)s::text[])"
        return query.where(condition, actor=self.actor, names=list(self.names))

    async def see_file(self, row: Row) -> None:
        """Raises ApiError(404) for a file that the caller does not see."""
        seen = self.names is None or row["owner"] == self.actor or bool(set(self.names) & set(row["readers"]))
        if not seen and not await self._related("viewer", "file", row["id"]):
            raise missing("file")

    async def change_file(self, row: Row, relation: Relation) -> None:
        """Raises ApiError: 404 for a file that the caller does not see, 403 without the right to change it."""
        if not await self._may("file", row, relation):
            await self.see_file(row)
            raise _refused("file", row, relation)

    async def change_store(self, row: Row, relation: Relation = "editor") -> None:
        """Raises ApiError(403)."""
        if not await self._may("vector_store", row, relation):
            raise _refused("vector_store", row, relation)

    async def _may(self, kind: str, row: Row, relation: Relation) -> bool:
        if self.names is None or row["owner"] == self.actor:
            return True
        return await self._related(relation, kind, row["id"])


def _refused(kind: str, row: Row, relation: Relation) -> ApiError:
    message = f"Only the owner of {row['id']} and holders of the relation {relation} to {kind}:{row['id']} may do this."
    return ApiError(403, message, ErrorType.PERMISSION, param=kind, code="not_owner")


def passages_of(file: Row, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """Readers of a file's passages: the requested ones, which must be readers of the file. Raises ApiError(400)."""
    most = tuple(file["readers"])
    if wanted is None:
        return most or (EVERYBODY,)
    if wider := [] if not most or EVERYBODY in most else sorted(set(wanted) - set(most)):
        message = f"readers: {', '.join(wider)} may not read {file['id']}; its readers are {', '.join(most)}"
        raise ApiError(400, message, param="readers", code="wider_than_file")
    return wanted
