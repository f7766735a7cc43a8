"""Entry point of the Audit service. With `verify` or `download`, it checks or copies a log instead."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kit import dead_letters, events, service
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.kafka import Events, retrying
from kit.ledger import note
from kit.retention import Retention
from kit.settings import ServiceSettings
from kit.tenant_deletion import DELETED, ERASED, Erasing
from pydantic import Field, SecretStr
from starlette.applications import Starlette

from audit import verify
from audit.api import PREFIX, Api, Event
from audit.erasing import Erasure
from audit.expiring import CLASSES, SECURITY, Expiring
from audit.ledger import Ledger
from audit.sealing import Keys

TOPICS = tuple(topic for topic in events.topics() if topic not in (DELETED, ERASED))
"""Topics that the log records. Deletions of tenants are recorded through User's own changes."""


class AuditSettings(ServiceSettings):
    """Settings of the Audit service."""

    name: str = "audit"
    origin: str = "cogniforge/audit"
    """Name of the log in its checkpoints. It must never change."""
    signing_secret: SecretStr
    """Secret from which the signing key of checkpoints is derived. It must never change."""
    sealing_secret: SecretStr
    """Secret from which the encryption key of tenants' keys is derived. It must never change."""
    backup_days: int = Field(default=0, ge=0)
    """Days that database backups are kept. Until then, they contain destroyed keys. 0 means unknown."""
    keep_security_days: int = Field(default=0, ge=0)
    """Days that the content of entries of this class is kept; 0 means forever, here and in the following settings."""
    keep_money_days: int = Field(default=0, ge=0)
    keep_content_days: int = Field(default=0, ge=0)
    keep_usage_days: int = Field(default=0, ge=0)


def _keys(settings: AuditSettings) -> tuple[Keys, Ed25519PrivateKey]:
    seed = hashlib.sha256(settings.signing_secret.get_secret_value().encode()).digest()
    return Keys(settings.sealing_secret.get_secret_value()), Ed25519PrivateKey.from_private_bytes(seed)


def consumer(settings: AuditSettings, database: Database) -> tuple[Events | None, DeadLetters]:
    """The consumer of all topics, if Kafka is enabled, and its dead letters."""
    ledger = Ledger(database, *_keys(settings), settings.origin)

    async def take(batch: Sequence[dict[str, Any]]) -> None:
        await ledger.append(batch)

    letters = DeadLetters(database, retrying(take, Event))
    return Events(settings, TOPICS, take, letters, Event) if settings.kafka_bootstrap else None, letters


def create(settings: AuditSettings) -> Starlette:
    """The application."""
    database = Database(settings)
    keys, signer = _keys(settings)
    ledger = Ledger(database, keys, signer, settings.origin)
    erasure = Erasure(database, ledger, keys)
    api = Api(database, ledger, erasure, note.verifier(settings.origin, signer.public_key()), settings.backup_days)

    callers = service.callers(settings)
    follower, letters = consumer(settings, database)
    deleted = Erasing(database, settings.name, erasure.erase).events(settings, letters)
    days = {name: getattr(settings, f"keep_{name}_days") for name in (*CLASSES, SECURITY)}
    retention = Retention(database, *Expiring(database, ledger).after(days))
    return service.create(
        "Audit",
        [*api.operations(), *dead_letters.operations(PREFIX, letters)],
        database=database,
        beside=[part for part in (follower, deleted, letters, retention, callers) if part],
        checks={"kafka": follower.check} if follower else {},
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Run the service, or the command in the arguments."""
    if len(sys.argv) > 1:
        return verify.main(sys.argv[1:])
    return service.main(AuditSettings(), create)  # pyright: ignore[reportCallIssue]


if __name__ == "__main__":
    raise SystemExit(main())
