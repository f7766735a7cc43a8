"""Files that ingestion has given up: dead letters, which operators retry or drop.

A file that cannot be read as it is (a wrong format, too large once unpacked) is its tenant's to mend, and only
`last_error` says so. A file becomes a dead letter where the platform failed: its processing was cut off or broke in
each of its attempts, another service stayed away, or its content is lost.
"""

from __future__ import annotations

import json
from typing import Any

from kit.database import Connection, Database
from kit.dead_letters import DeadLetters, Row
from kit.errors import ApiError, ErrorType, missing

TOPIC = "store_files"
"""Of these dead letters; the database's triggers name it too."""
_CODE = "server_error"
"""OpenAI's code of a failure that is not the file's own."""


class SetAside:
    """Puts files that failed among the dead letters, and back into the queue."""

    def __init__(self, database: Database, letters: DeadLetters) -> None:
        self._database, self._letters = database, letters
        letters.also(TOPIC, self._retry)

    async def put(self, connection: Connection, row: dict[str, Any], reason: str, code: str, tries: int) -> None:
        """In the transaction that marks the file as failed. Nothing, where the file itself is at fault."""
        if code != _CODE:
            return
        names = {name: row[name] for name in ("tenant", "store", "file", "name")}
        key = f"{row['tenant']}/{row['store']}/{row['file']}"
        with self._database.joined(connection):
            await self._letters.put(TOPIC, key.encode(), json.dumps(names).encode(), reason, tries)

    async def _retry(self, letter: Row) -> None:
        """Back into the queue, with all attempts. Raises ApiError: 404, or 503 while somebody else changes the file."""
        names = json.loads(letter["payload"])
        async with self._database.transaction() as connection:
            # Never waits: whoever holds the row may wait for the dead letter, which this transaction holds.
            cursor = await connection.execute(
                "SELECT status FROM store_files WHERE store = %(store)s AND file = %(file)s FOR UPDATE SKIP LOCKED",
                names,
            )
            if (row := await cursor.fetchone()) is None:
                cursor = await connection.execute(
                    "SELECT 1 FROM store_files WHERE store = %(store)s AND file = %(file)s", names
                )
                if await cursor.fetchone() is None:
                    raise missing("file")
                raise ApiError(503, "The file is being changed now; try again.", ErrorType.SERVER, code="unavailable")
            if row[0] == "failed":
                await connection.execute(
                    "UPDATE store_files SET status = 'in_progress', error = '', code = '', attempts = 0, waits = 0, "
                    "lease = '', free_at = 'epoch' WHERE store = %(store)s AND file = %(file)s",
                    names,
                )
