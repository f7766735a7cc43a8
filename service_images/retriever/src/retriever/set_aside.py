"""Dead letters for files whose ingestion has failed, which operators retry or drop.

If the file itself is at fault (unsupported format, too large after unpacking), its tenant must fix it, and only
`last_error` reports it. A file becomes a dead letter if the platform has failed: all attempts crashed or were
interrupted, another service stayed unavailable, or the content is lost.
"""

from __future__ import annotations

import json
from typing import Any

from kit.database import Connection, Database
from kit.dead_letters import DeadLetters, Row
from kit.errors import ApiError, ErrorType, missing

TOPIC = "store_files"
"""Topic of these dead letters; the database's triggers contain it too."""
_CODE = "server_error"
"""OpenAI's code for a failure of the server."""


class SetAside:
    """Creates dead letters for failed files, and queues the files again."""

    def __init__(self, database: Database, letters: DeadLetters) -> None:
        self._database, self._letters = database, letters
        letters.also(TOPIC, self._retry)

    async def put(self, connection: Connection, row: dict[str, Any], reason: str, code: str, tries: int) -> None:
        """Write a dead letter in the transaction that marks the file as failed, unless the file itself is at fault."""
        if code != _CODE:
            return
        names = {name: row[name] for name in ("tenant", "store", "file", "name")}
        key = f"{row['tenant']}/{row['store']}/{row['file']}"
        with self._database.joined(connection):
            await self._letters.put(TOPIC, key.encode(), json.dumps(names).encode(), reason, tries)

    async def _retry(self, letter: Row) -> None:
        """Queue the file again, with all attempts. Raises ApiError: 404, or 503 during another change of the file."""
        names = json.loads(letter["payload"])
        async with self._database.transaction() as connection:
            # Never wait for the row: its holder may be waiting for the dead letter, which this transaction has locked.
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
