"""Dead letters: events and changes that a service could not process. They are set aside so that others can continue.

A dead letter is stored in the service's own database with its content, the reason of the failure and the number of
tries. An operator inspects it, then retries it once the cause is fixed, or drops it. The audit log records both.

Order: all other events keep their order by key. Later events of the same key do not wait for a dead letter, and its
retry comes after them. If they waited, one event could block all later ones of its tenant.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, cast

import psycopg
from prometheus_client import Counter, Gauge
from psycopg.rows import dict_row
from pydantic import Field

from kit import logs, outbox, telemetry
from kit.database import Connection, Database
from kit.directory import Scope
from kit.errors import ApiError, missing
from kit.limits import REASON, SUBJECT
from kit.rest import Call, Model, Operation

log = logs.get("kit.dead_letters")
TABLE = """CREATE TABLE dead_letters (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    partition int NOT NULL,
    position bigint NOT NULL,
    key bytea NOT NULL,
    payload bytea NOT NULL,
    digest bytea NOT NULL,
    reason text NOT NULL,
    tries int NOT NULL,
    made timestamptz NOT NULL DEFAULT now(),
    UNIQUE (topic, partition, position, digest)
)"""
HANDLED = "dead-letter.handled.v1"
_COLUMNS = "number, topic, partition, position, key, payload, reason, tries, made"
_REASON = 2000
_REFRESH_S = 10.0
_NUMBER = (("number", r"\d{1,18}", "A dead letter's number"),)
WAITING = Gauge(
    "dead_letters_waiting", "Dead letters that were not retried or dropped yet.", ["topic"], registry=telemetry.REGISTRY
)
SET_ASIDE = Counter(
    "dead_letters_set_aside_total", "Events and changes set aside.", ["topic"], registry=telemetry.REGISTRY
)


def upgrade() -> None:
    """Migration step of a service: create the table."""
    from alembic import op  # imports SQLAlchemy, which a running service does not need

    op.execute(TABLE)


def downgrade() -> None:
    """Migration step of a service: drop the table."""
    from alembic import op

    op.execute("DROP TABLE dead_letters")


class Letter(Model):
    """A dead letter without its content."""

    number: int
    topic: str
    """A Kafka topic; nats/<bucket> for a value that could not be published; store_files for a file of Retriever."""
    partition: int
    position: int
    """Offset in the partition; -1 if the letter does not come from Kafka."""
    key: str
    bytes: int
    """Size of the content in bytes."""
    reason: str
    tries: int
    made: datetime


class FullLetter(Letter):
    """A dead letter with its content."""

    payload: str
    """The content. Bytes that are not UTF-8 are shown as \\xNN."""


class Letters(Model):
    """A page of dead letters, and the number that the next page starts after."""

    dead_letters: list[Letter]
    next: int | None


class Search(Model):
    """Filter for dead letters."""

    topic: Annotated[str, Field(max_length=200)] = ""
    after: Annotated[int, Field(ge=0, lt=2**62)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class Retried(Model):
    """A dead letter that was processed and removed."""

    processed: bool


Row = dict[str, Any]
"""A row of the table with the columns in `_COLUMNS`."""
Retry = Callable[[Row], Awaitable[None]]
"""Processes a letter again, and raises if that fails. Its changes and the letter's removal are one transaction."""


def _shown(content: bytes) -> str:
    # NUL is legal in JSON, but PostgreSQL does not accept it.
    return content.decode(errors="backslashreplace").replace("\0", "\\x00")


def _letter(row: Row) -> Letter:
    shown = {name: row[name] for name in ("number", "topic", "partition", "position", "reason", "tries", "made")}
    return Letter(**shown, key=_shown(row["key"]), bytes=len(row["payload"]))


class DeadLetters:
    """A service's dead letters."""

    def __init__(self, database: Database, retry: Retry | None = None) -> None:
        """Without `retry`, letters can only be inspected and dropped."""
        self._database, self._retry = database, retry
        self._retries: dict[str, Retry] = {}
        self._topics: set[str] = set()

    def also(self, topic: str, retry: Retry) -> None:
        """Use another function to retry the letters of a topic."""
        self._retries[topic] = retry

    async def put(
        self, topic: str, key: bytes, payload: bytes, reason: str, tries: int, partition: int = -1, position: int = -1
    ) -> None:
        """Store a dead letter. The same content from the same place updates the existing letter."""
        digest = hashlib.sha256(key + b"\0" + payload).digest()
        async with self._database.transaction() as connection:
            made = await connection.execute(
                "INSERT INTO dead_letters (topic, partition, position, key, payload, digest, reason, tries) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (topic, partition, position, digest) "
                "DO UPDATE SET tries = excluded.tries, reason = excluded.reason RETURNING xmax = 0",
                (topic, partition, position, key, payload, digest, _reason(reason), tries),
            )
            row = await made.fetchone()
        if row and row[0]:
            SET_ASIDE.labels(topic).inc()
            self._topics.add(topic)
            WAITING.labels(topic).inc()
            place = f"{topic}/{partition}/{position}"
            log.error("set aside as a dead letter", place=place, reason=reason[:300], tries=tries)

    async def resolve(self, connection: Connection, topic: str, key: bytes) -> None:
        """Remove the letters of a key, because it was processed successfully meanwhile or must be forgotten."""
        await connection.execute("DELETE FROM dead_letters WHERE topic = %s AND key = %s", (topic, key))

    async def probe(self) -> str | None:
        """None if a letter can be written now, otherwise the reason. Rolls back its test row."""
        try:
            async with self._database.transaction() as connection, connection.transaction(force_rollback=True):
                await connection.execute(
                    "INSERT INTO dead_letters (topic, partition, position, key, payload, digest, reason, tries) "
                    "VALUES ('probe', -1, -1, '', '', '', '', 0)"
                )
        except Exception as error:
            return repr(error)
        return None

    async def run(self) -> None:
        """Refresh the metric until cancelled, since other replicas and operators change the table too."""
        while True:
            try:
                async with self._database.transaction() as connection:
                    cursor = await connection.execute("SELECT topic, count(*) FROM dead_letters GROUP BY topic")
                    found = dict(await cursor.fetchall())
            except (ApiError, psycopg.Error) as error:
                log.debug("dead letters are not counted", reason=repr(error))  # readiness reports the reason
            else:
                self._topics |= found.keys()
                for topic in self._topics:
                    WAITING.labels(topic).set(found.get(topic, 0))
            await asyncio.sleep(_REFRESH_S)

    async def list(self, call: Call[Search, None]) -> Letters:
        """A page, oldest first."""
        query = call.query
        async with self._database.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(
                f"SELECT {_COLUMNS} FROM dead_letters WHERE number > %s AND %s IN ('', topic) ORDER BY number LIMIT %s",
                (query.after, query.topic, query.limit),
            )
            rows = await cursor.fetchall()
        more = rows[-1]["number"] if len(rows) == query.limit else None
        return Letters(dead_letters=[_letter(row) for row in rows], next=more)

    async def show(self, call: Call[Any, None]) -> FullLetter:
        """One letter with its content."""
        async with self._database.transaction() as connection:
            row = await _found(connection, call)
        return FullLetter(**_letter(row).model_dump(), payload=_shown(row["payload"]))

    async def retry(self, call: Call[Any, None]) -> Retried:
        """Process the letter now. It is removed if and only if that succeeds."""
        try:
            async with self._database.transaction() as connection:
                row = await _found(connection, call)
                if (retry := self._retries.get(row["topic"], self._retry)) is None:
                    raise ApiError(409, "This service cannot retry dead letters now.", code="still_failing")
                with self._database.joined(connection):
                    await retry(row)
                await connection.execute("DELETE FROM dead_letters WHERE number = %s", (row["number"],))
                await self._note(connection, call, row, "retried")
        except ApiError as error:
            if error.status in (404, 503, 507):
                raise
            reason = error.message
        except Exception as error:
            reason = repr(error)
        else:
            log.info("a dead letter was processed", number=row["number"], topic=row["topic"], by=call.caller.actor)
            return Retried(processed=True)
        async with self._database.transaction() as connection:
            row = await _found(connection, call)
            row["reason"] = _reason(reason)
            await connection.execute(
                "UPDATE dead_letters SET tries = tries + 1, reason = %s WHERE number = %s",
                (row["reason"], row["number"]),
            )
            await self._note(connection, call, row, "retry-failed")
        raise ApiError(409, f"Processing failed again: {_reason(reason)}", code="still_failing")

    async def drop(self, call: Call[Any, None]) -> None:
        """Deletes the letter permanently."""
        async with self._database.transaction() as connection:
            row = await _found(connection, call)
            await connection.execute("DELETE FROM dead_letters WHERE number = %s", (row["number"],))
            await self._note(connection, call, row, "dropped")
        log.warning("a dead letter was dropped", number=row["number"], topic=row["topic"], by=call.caller.actor)

    async def _note(self, connection: Connection, call: Call[Any, Any], row: Row, change: str) -> None:
        """Write an audit event to the outbox, as an act of the operator's own tenant."""
        who = call.caller
        data = {"tenant": who.tenant, "service": self._database.name, "topic": row["topic"], "number": row["number"]}
        data |= {"key": _shown(row["key"])[: SUBJECT.most], "change": change, "actor": who.actor}
        data["reason"] = row["reason"][: REASON.most]
        await outbox.put(connection, HANDLED, self._database.name, who.tenant, data)


async def _found(connection: Connection, call: Call[Any, Any]) -> Row:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM dead_letters WHERE number = %s FOR UPDATE", (int(call.path["number"]),)
        )
        row = await cursor.fetchone()
    if row is None:
        raise missing("dead letter")
    return row


def _reason(reason: str) -> str:
    return reason.replace("\0", "\\x00").encode(errors="backslashreplace").decode()[:_REASON]


def operations(prefix: str, letters: DeadLetters | None = None) -> Sequence[Operation]:
    """Operators' operations under a service's prefix. Without `letters`, they serve as descriptions only."""
    own = letters or cast("DeadLetters", DeadLetters)
    path, one = f"{prefix}/dead-letters", f"{prefix}/dead-letters/{{number}}"
    operators: dict[str, Any] = {"scope": Scope.ADMIN}
    single: dict[str, Any] = {**operators, "parameters": _NUMBER}
    return [
        Operation("GET", path, "List the dead letters.", own.list, Letters, query=Search,
                  **operators),
        Operation("GET", one, "Get a dead letter with its content.", own.show, FullLetter, failures=(404,), **single),
        Operation("DELETE", one, "Delete a dead letter permanently.", own.drop, status=204, failures=(404,), **single),
        Operation("POST", one + "/retry", "Retry a dead letter.", own.retry, Retried, failures=(404, 409),
                  **single),
    ]  # fmt: skip
