"""Idempotency-Key: a repeated request gets the first answer again and has no second effect.

The effect and the answer are committed together, so that a crash leaves both or neither. A refused request leaves
nothing and can be retried with its key. Answers are kept for a day, encrypted with the Idempotency-Key and the API key,
which only the caller has. Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Awaitable, Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.errors import LockNotAvailable
from starlette.requests import Request
from starlette.responses import Response

from kit.database import Connection, Database
from kit.directory import Grant, bearer
from kit.errors import ApiError

HEADER = "idempotency-key"
TABLE = """CREATE TABLE repeats (
    key bytea PRIMARY KEY,
    request bytea NOT NULL,
    status int NOT NULL DEFAULT 0,
    answer bytea NOT NULL DEFAULT '',
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX repeats_made ON repeats (made)"""
REPLAYED = "idempotency-replayed"
"""Header of a repeated answer."""
_PATTERN = r"[\x21-\x7e]{1,255}"
_KEPT = "24 hours"
_NONCE_BYTES = 12
_PATIENCE_MS = 3000
"""Longest wait in milliseconds for a concurrent request with the same key."""


def upgrade() -> None:
    """Migration step of a service: create the table."""
    from alembic import op  # imports SQLAlchemy, which a running service does not need

    op.execute(TABLE)


def downgrade() -> None:
    """Migration step of a service: drop the table."""
    from alembic import op

    op.execute("DROP TABLE repeats")


class Repeats:
    """Stores answers in the service's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def key_of(request: Request) -> str:
        """The request's Idempotency-Key; empty if it has none. Raises ApiError(400) if it is invalid."""
        key = request.headers.get(HEADER)
        if key is None:
            return ""
        if not re.fullmatch(_PATTERN, key):
            message = "Idempotency-Key: 1 to 255 printable characters without spaces"
            raise ApiError(400, message, param="Idempotency-Key")
        return key

    async def once(
        self, request: Request, key: str, caller: Grant, content: bytes, answer: Callable[[], Awaitable[Response]]
    ) -> Response:
        """The result of `answer`, or the stored one. The answer and its database changes are one transaction.

        `content` identifies the request: its body, or for a form, whose body differs each time, a digest of its fields.

        Raises ApiError: 409 while the first request is running, 422 if the key was used for another request.
        """
        secret = bearer(request.headers)
        own = _digest(caller.tenant, caller.actor, secret, key)
        asked = _digest(request.method, request.url.path, request.url.query, content.hex())
        seal = AESGCM(_digest("seal", secret, key))
        async with self._database.transaction() as connection:
            if not await _mine(connection, own, asked):
                return await _again(connection, own, asked, seal)
            with self._database.joined(connection):
                found = await answer()
            nonce = os.urandom(_NONCE_BYTES)
            sealed = nonce + seal.encrypt(nonce, bytes(found.body), own)
            await connection.execute(
                "UPDATE repeats SET status = %s, answer = %s WHERE key = %s", (found.status_code, sealed, own)
            )
        return found


async def _mine(connection: Connection, own: bytes, asked: bytes) -> bool:
    """Whether this is the first request with the key. Waits for a running one."""
    await connection.execute(
        "DELETE FROM repeats WHERE key IN (SELECT key FROM repeats WHERE made < now() - %s::interval "
        "ORDER BY made LIMIT 20 FOR UPDATE SKIP LOCKED)",
        (_KEPT,),
    )
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(_PATIENCE_MS),))
    try:
        made = await connection.execute(
            "INSERT INTO repeats (key, request) VALUES (%s, %s) ON CONFLICT DO NOTHING", (own, asked)
        )
    except LockNotAvailable:
        message = "A request with this Idempotency-Key is still running. Try again later."
        raise ApiError(409, message, param="Idempotency-Key", code="idempotency_key_in_use") from None
    await connection.execute("SELECT set_config('lock_timeout', '0', true)")
    return bool(made.rowcount)


async def _again(connection: Connection, own: bytes, asked: bytes, seal: AESGCM) -> Response:
    cursor = await connection.execute("SELECT request, status, answer FROM repeats WHERE key = %s", (own,))
    row = await cursor.fetchone()
    if row is None or row[0] != asked:
        message = "This Idempotency-Key was used for another request."
        raise ApiError(422, message, param="Idempotency-Key", code="idempotency_key_reused")
    _, status, sealed = row
    content = seal.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], own)
    return Response(content, status, {REPLAYED: "true"}, media_type="application/json")


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()
