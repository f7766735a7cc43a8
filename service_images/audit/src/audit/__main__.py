"""Entry point of the Audit service. With `verify` or `download`, it checks or copies a log instead."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kit import dead_letters, events, service
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.kafka import Events, retrying
from kit.retention import Retention
from kit.secret_store import SecretStore
from kit.settings import ServiceSettings
from kit.tenant_deletion import DELETED, ERASED, Erasing
from pydantic import Field, SecretStr, model_validator
from starlette.applications import Starlette

from audit import verify
from audit.api import PREFIX, Api, Event
from audit.erasing import Erasure
from audit.expiring import CLASSES, SECURITY, Expiring
from audit.ledger import Ledger
from audit.moving import Moving
from audit.sealing import Keys
from audit.signing import Signing
from audit.transit import Transit

TOPICS = tuple(topic for topic in events.topics() if topic not in (DELETED, ERASED))
"""Topics that the log records. Deletions of tenants are recorded through User's own changes."""


class AuditSettings(ServiceSettings):
    """Settings of the Audit service."""

    name: str = "audit"
    origin: str = "cogniforge/audit"
    """Name of the log in its checkpoints. It must never change."""
    signing_secret: SecretStr = SecretStr("")
    """Secret from which the signing key of checkpoints is derived. It must never change. Empty: the secret store has
    the key, and has always had it or has taken over from this one."""
    sealing_secret: SecretStr = SecretStr("")
    """Secret from which the encryption key of tenants' keys is derived. It must never change. Empty as above."""
    move_after_seconds: int = Field(default=3600, ge=0)
    """Seconds after which only the secret store's keys are used, where it takes over: by then, no replica of an earlier
    release may run."""
    backup_days: int = Field(default=0, ge=0)
    """Days that backups which contain destroyed keys are kept. 0 means unknown."""
    keep_security_days: int = Field(default=0, ge=0)
    """Days that the content of entries of this class is kept; 0 means forever, here and in the following settings."""
    keep_money_days: int = Field(default=0, ge=0)
    keep_content_days: int = Field(default=0, ge=0)
    keep_usage_days: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _some_keys(self) -> Self:
        secrets = [bool(one.get_secret_value()) for one in (self.signing_secret, self.sealing_secret)]
        if secrets[0] != secrets[1] or not (secrets[0] or self.store_url):
            raise ValueError("signing_secret and sealing_secret are required together, unless store_url is set")
        return self


@dataclass(frozen=True)
class Log:
    """The log, with the keys of this process."""

    database: Database
    transit: Transit | None
    keys: Keys
    signing: Signing
    ledger: Ledger
    erasure: Erasure

    @classmethod
    def of(cls, settings: AuditSettings, database: Database) -> Log:
        """The log of these settings."""
        transit = Transit(SecretStore(settings)) if settings.store_url else None
        signing, sealing = (getattr(settings, f"{name}_secret").get_secret_value() for name in ("signing", "sealing"))
        seed = hashlib.sha256(signing.encode()).digest()
        signer = Signing(settings.origin, Ed25519PrivateKey.from_private_bytes(seed) if signing else None, transit)
        keys = Keys(sealing, transit)
        ledger = Ledger(database, keys, signer)
        return cls(database, transit, keys, signer, ledger, Erasure(database, ledger, keys))

    def consumer(self, settings: AuditSettings) -> tuple[Events | None, DeadLetters]:
        """The consumer of all topics, if Kafka is enabled, and its dead letters."""

        async def take(batch: Sequence[dict[str, Any]]) -> None:
            await self.ledger.append(batch, patient=True)

        async def again(batch: Sequence[dict[str, Any]]) -> None:
            await self.ledger.append(batch)

        letters = DeadLetters(self.database, retrying(again, Event))
        return Events(settings, TOPICS, take, letters, Event) if settings.kafka_bootstrap else None, letters


class _Deletions(Erasing):
    """Deletions of tenants, which wait for the secret store instead of becoming dead letters."""

    def __init__(self, log: Log, service: str) -> None:
        super().__init__(log.database, service, log.erasure.erase)
        self._ledger = log.ledger

    async def handle(self, batch: Sequence[dict[str, Any]]) -> None:
        """Erase the tenants of a batch of events."""
        await self._ledger.prepared("")
        await super().handle(batch)


def create(settings: AuditSettings) -> Starlette:
    """The application."""
    database = Database(settings)
    log = Log.of(settings, database)
    moving = Moving(database, log.ledger, log.keys, log.signing, log.transit, settings.move_after_seconds)
    api = Api(database, log.ledger, log.erasure, settings.backup_days)
    callers = service.callers(settings)
    follower, letters = log.consumer(settings)
    deleted = _Deletions(log, settings.name).events(settings, letters)
    days = {name: getattr(settings, f"keep_{name}_days") for name in (*CLASSES, SECURITY)}
    retention = Retention(database, *Expiring(log.ledger).after(days))
    return service.create(
        "Audit",
        [*api.operations(), *dead_letters.operations(PREFIX, letters)],
        database=database,
        beside=[part for part in (moving, follower, deleted, letters, retention, callers) if part],
        close=[log.transit.close] if log.transit else [],
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
