"""Requests with an Idempotency-Key: sent again, they are answered again and do nothing twice.

What a request does and what it is answered are committed together, so that a crash leaves both or neither; one that is
refused leaves nothing, and may be tried again under its key. Answers are kept for a day, sealed with what only the
caller has: its Idempotency-Key and its API key. Source: draft-ietf-httpapi-idempotency-key-header-07.
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
"""Header of an answer that was given before."""
_PATTERN = r"[\x21-\x7e]{1,255}"
_KEPT = "24 hours"
_NONCE_BYTES = 12
_PATIENCE_MS = 3000
"""For a request under the same key that is being answered."""


def upgrade() -> None:
    """A service's revision: make the table."""
    from alembic import op  # brings SQLAlchemy, which a service that runs need not have

    op.execute(TABLE)


def downgrade() -> None:
    """A service's revision: take it away."""
    from alembic import op

    op.execute("DROP TABLE repeats")


class Repeats:
    """Keeps answers beside what a service keeps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def key_of(request: Request) -> str:
        """The request's Idempotency-Key; empty: it has none. Raises ApiError(400) for one that cannot be."""
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
        """What `answer` gives, or gave before. It and what it does with the database are one transaction.

        `content` stands for the content of the request: its body, or of a form, whose body differs each time that it is
        sent, a digest of its fields.

        Raises ApiError: 409 while the first one is being answered, 422 where the key stood for another request.
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
    """Whether this is the first request under the key; one that is being answered is waited for."""
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
        message = "A request with this Idempotency-Key is being answered; come again."
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
