"""REST operations of the Audit service."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

from kit import dead_letters, events, rest, rest_app
from kit.database import Database
from kit.directory import Scope
from kit.errors import ApiError, ErrorType, missing
from kit.ledger import merkle
from kit.rest import Call, Model, Moment, Operation
from pydantic import Field
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from audit import exporting, reading, tiles
from audit.erasing import Erasure
from audit.ledger import Ledger, TooLarge

PREFIX = "/v1/audit"
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
_TENANT = (("tenant", r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}", "A tenant's name"),)
_REQUEST = (("request_id", r"[A-Za-z0-9._-]{1,128}", "A request's ID, from the header x-request-id"),)
_REQUEST_ENTRIES = 50
"""Most entries about one request ID that are returned. Clients choose the IDs, and may repeat one."""
_NUMBER = (("number", r"\d{1,18}", "An entry's number"),)


class Event(Model):
    """A CloudEvent 1.0 in structured mode."""

    specversion: Annotated[str, Field(pattern=r"^1\.0$")]
    id: Name
    source: Name
    type: Name
    time: Moment
    subject: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""
    datacontenttype: Annotated[str, Field(pattern=r"^application/json$")] = "application/json"
    traceparent: Annotated[str, Field(max_length=55, pattern=r"^[0-9a-f-]*$")] = ""
    data: dict[str, Any]


class Search(Model):
    """Filter for entries. The default is the caller's own tenant; an operator's key reads all tenants."""

    tenant: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] = ""
    subject: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""
    type: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] = ""
    after: Annotated[int, Field(ge=-1, lt=2**62)] = -1
    limit: Annotated[int, Field(ge=1, le=reading.LIMIT)] = 100


class AsOf(Model):
    """The subject whose state is read, and the time."""

    tenant: Name
    subject: Name
    at: Moment | None = None


class Span(Model):
    """Range of entry numbers; the default is the whole log."""

    first: Annotated[int, Field(ge=0, lt=2**62)] = 0
    last: Annotated[int | None, Field(ge=0, lt=2**62)] = None


class Sizes(Model):
    """Two sizes of the log, in entries."""

    old: Annotated[int, Field(ge=0, lt=2**62)]
    new: Annotated[int, Field(ge=1, lt=2**62)]


class AtSize(Model):
    """Size of the log in entries; the default is the newest checkpoint's."""

    size: Annotated[int | None, Field(ge=1, lt=2**62)] = None


class Written(Model):
    """Positions of the written events in the log."""

    numbers: list[int]


class Found(Model):
    """Entries, and the cursor of the next page."""

    entries: list[dict[str, Any]]
    next: int | None


class ProvenEntry(Model):
    """An entry with the proof that the log contains it, as in an export."""

    number: int
    entry: str
    """The leaf."""
    content: str | None
    """The text that the leaf commits to by its salted hash; null without content."""
    proof: list[str]
    event: dict[str, Any]


class AboutRequest(Model):
    """Entries about one request, newest first."""

    entries: list[ProvenEntry]
    more: bool
    """Whether there are older ones."""
    checkpoint: str
    """Signed note that the proofs lead to."""


class State(Model):
    """State of a subject at a time."""

    state: dict[str, Any] | None
    events: int
    last: int


class Proof(Model):
    """Hashes in hexadecimal, and the checkpoint that they prove."""

    hashes: list[str]
    checkpoint: str


class Shredded(Model):
    """A tenant whose encryption key was destroyed."""

    shredded: bool
    backups_until: datetime | None
    """When the last backup that contains the key expires; null if the retention of backups is not configured."""
    destroyed: bool
    """Whether the secret store, if there is one, has destroyed the key; false: it follows once the store answers."""


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return rest_app.document("Audit", [*Api.operations(cast("Api", Api)), *dead_letters.operations(PREFIX)])


class Api:
    """REST operations on one ledger."""

    def __init__(self, database: Database, ledger: Ledger, erasure: Erasure, backup_days: int = 0) -> None:
        """`backup_days`: retention of the backups that contain keys, in days; 0 means unknown."""
        self._database, self._ledger = database, ledger
        self._erasure, self._backup_days = erasure, backup_days

    def operations(self) -> list[Operation]:
        """All operations. On the class itself they serve as descriptions only and cannot be called."""
        text, raw = "text/plain", "application/octet-stream"
        place = (("place", r"[0-9a-z/.]{1,80}", "Level and number of a tile, in the notation of C2SP tlog-tiles"),)
        operators: dict[str, Any] = {"scope": Scope.ADMIN}
        tenants: dict[str, Any] = {"scope": Scope.AUDIT, "failures": (404,)}
        # Hashes reveal nothing of the entries, so any key may verify the log.
        anybody: dict[str, Any] = {"scope": ""}
        return [
            Operation("POST", PREFIX + "/events", "Write events.", self.write, Written, body=list[Event],
                      status=201, **operators),
            Operation("GET", PREFIX + "/events", "List a tenant's entries in order.", self.find, Found, query=Search,
                      **tenants),
            Operation("GET", PREFIX + "/state", "Get the state of a subject at a time.", self.state, State, query=AsOf,
                      **tenants),
            Operation("GET", PREFIX + "/requests/{request_id}", "List the entries about a request, with proofs.",
                      self.request, AboutRequest, parameters=_REQUEST, **tenants),
            Operation("GET", PREFIX + "/events/{number}/proof", "Prove that an entry is logged.", self.inclusion, Proof,
                      query=AtSize, parameters=_NUMBER, failures=(404,), **anybody),
            Operation("GET", PREFIX + "/consistency", "Prove that the log is append-only.", self.consistency, Proof,
                      query=Sizes, failures=(404,), **anybody),
            Operation("GET", PREFIX + "/tenants/{tenant}/export", "Export a tenant's entries, each with its proof.",
                      self.export, query=Span, parameters=_TENANT, media="application/x-ndjson", **tenants),
            Operation("POST", PREFIX + "/tenants/{tenant}/shred",
                      "Destroy a tenant's key: the content of its entries is lost.", self.shred, Shredded,
                      parameters=_TENANT, failures=(404,), **operators),
            Operation("GET", PREFIX + "/checkpoint", "Get the newest checkpoint.", self.checkpoint, media=text,
                      failures=(404,), **anybody),
            Operation("GET", PREFIX + "/key", "Get the public keys that verify checkpoints.", self.key, media=text,
                      **anybody),
            Operation("GET", PREFIX + "/tile/{place:path}", "Get a tile; operators can also get bundles of entries "
                      "(C2SP tlog-tiles).", self.tile, media=raw, failures=(404,), parameters=place, **anybody),
        ]  # fmt: skip

    async def write(self, call: Call[Any, list[Event]]) -> Written:
        """Returns when the events are on disk."""
        if not 1 <= len(call.body) <= reading.LIMIT:
            raise ApiError(400, f"send 1 to {reading.LIMIT} events; the request has {len(call.body)}")
        found = [event.model_dump(mode="json") for event in call.body]
        try:
            numbers = await self._ledger.append(found)
        except TooLarge as error:
            raise ApiError(400, str(error)) from None
        return Written(numbers=[numbers[event["source"], event["id"]] for event in found])

    async def find(self, call: Call[Search, None]) -> Found:
        """A page."""
        query = call.query
        tenant = query.tenant or ("" if call.caller.operator else call.caller.tenant)
        if tenant:
            rest.own(call.caller, tenant)
        async with self._database.transaction() as connection:
            entries = await reading.find(
                self._ledger, connection, tenant, query.subject, query.type, query.after, query.limit
            )
        return Found(entries=entries, next=entries[-1]["number"] if len(entries) == query.limit else None)

    async def state(self, call: Call[AsOf, None]) -> State:
        """Computes the state from the subject's events."""
        query, at = call.query, call.query.at or datetime.now(UTC)
        rest.own(call.caller, query.tenant)
        async with self._database.transaction() as connection:
            found, events, last = await reading.state(self._ledger, connection, query.tenant, query.subject, at)
        return State(state=found, events=events, last=last)

    async def request(self, call: Call[Any, None]) -> AboutRequest:
        """Operators read the entries of all tenants."""
        tenant = "" if call.caller.operator else call.caller.tenant
        subject = events.request(call.path["request_id"])
        async with self._database.transaction() as connection:
            found, text = await reading.about(self._ledger, connection, tenant, subject, _REQUEST_ENTRIES + 1)
        if not found:
            raise missing("request")
        entries = [ProvenEntry(**entry) for entry in found[:_REQUEST_ENTRIES]]
        return AboutRequest(entries=entries, more=len(found) > _REQUEST_ENTRIES, checkpoint=text)

    async def inclusion(self, call: Call[AtSize, None]) -> Proof:
        """Audit path from the entry to the root."""
        number = int(call.path["number"])
        async with self._database.transaction() as connection:
            size, _, text = await self._checkpoint(connection, call.query.size)
            if number >= size:
                raise ApiError(404, f"The log at that checkpoint has {size} entries.", ErrorType.NOT_FOUND)
            read = await reading.tiles_for(connection, size, number)
        return Proof(hashes=[h.hex() for h in merkle.inclusion(read, number, size)], checkpoint=text)

    async def consistency(self, call: Call[Sizes, None]) -> Proof:
        """Consistency proof between two checkpoints."""
        old, new = call.query.old, call.query.new
        if old > new:
            raise ApiError(400, "old must be less than or equal to new", param="old")
        async with self._database.transaction() as connection:
            size, _, text = await self._checkpoint(connection, new)
            read = await reading.tiles_for(connection, size, max(0, old - 1))
        return Proof(hashes=[h.hex() for h in merkle.consistency(read, old, size)], checkpoint=text)

    @staticmethod
    async def _checkpoint(connection: Any, size: int | None) -> tuple[int, bytes, str]:
        found = await reading.checkpoint(connection, size)
        if found is None:
            raise ApiError(404, "No checkpoint has this size.", ErrorType.NOT_FOUND)
        return found

    async def export(self, call: Call[Any, None]) -> Response:
        """Input of `audit verify`."""
        tenant = rest.own(call.caller, call.path["tenant"])
        lines = exporting.export(self._ledger, self._database, tenant, call.query.first, call.query.last)
        # Read a line before the response begins: without a database the client gets an error, not a truncated export.
        first = [line async for line in _some(lines, 1)]

        async def all_lines() -> AsyncIterator[bytes]:
            for line in first:
                yield line
            async for line in lines:
                yield line

        return StreamingResponse(all_lines(), media_type="application/x-ndjson")

    async def shred(self, call: Call[Any, None]) -> Shredded:
        """Takes effect in all replicas at once, irrevocably. Older backups contain the key until they expire."""
        tenant, caller = call.path["tenant"], call.caller
        async with self._database.transaction() as connection:
            if not await self._erasure.shred(connection, tenant, caller.tenant, caller.actor):
                raise ApiError(404, "The tenant has no encryption key.", ErrorType.NOT_FOUND)
        ends = datetime.now(UTC) + timedelta(days=self._backup_days) if self._backup_days else None
        return Shredded(shredded=True, backups_until=ends, destroyed=await self._erasure.destroyed(tenant))

    async def checkpoint(self, _: Call[Any, None]) -> Response:
        """Returns a signed note (C2SP)."""
        async with self._database.transaction() as connection:
            _, _, text = await self._checkpoint(connection, None)
        return PlainTextResponse(text)

    async def key(self, _: Call[Any, None]) -> Response:
        """Returns the keys in the format of `audit verify`: the one in use, then earlier ones.

        An earlier key is followed by the size of the log up to which it counts.
        """
        async with self._database.transaction() as connection:
            return PlainTextResponse(await self._ledger.published(connection))

    async def tile(self, call: Call[Any, None]) -> Response:
        """/tile/<level or "entries">/<number>[.p/<width>]."""
        match = re.fullmatch(r"(\d{1,2}|entries)/((?:x\d{3}/)*\d{3})(?:\.p/(\d{1,3}))?", call.path["place"])
        number = tiles.number_of(match[2]) if match else None
        width = int(match[3]) if match and match[3] else merkle.WIDTH
        if match is None or number is None or not 1 <= width <= merkle.WIDTH:
            raise ApiError(404, "No such tile exists.", ErrorType.NOT_FOUND)
        if match[1] == "entries" and not call.caller.operator:
            # Entries are encrypted, but their tenant and time are readable.
            raise ApiError(403, "Bundles contain all tenants' entries; request an export.", ErrorType.PERMISSION)
        async with self._database.transaction() as connection:
            if match[1] == "entries":
                content = await reading.bundle(connection, number, width)
            else:
                content = await reading.tile(connection, int(match[1]), number, width)
        if content is None:
            raise ApiError(404, "No such tile exists.", ErrorType.NOT_FOUND)
        return Response(content, media_type="application/octet-stream")


async def _some(lines: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        try:
            yield await anext(lines)
        except StopAsyncIteration:
            return
