"""The security part of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import model_validator

from components.config.base import Change, DnsLabel, Resources, Section, setting
from components.config.data import Storage, quorum
from components.config.problems import violation


class SecretEngine(StrEnum):
    """Which program keeps secrets."""

    OPENBAO = "openbao"
    """OpenBao: MPL-2.0, initializes itself from its configuration."""
    VAULT = "vault"
    """HashiCorp Vault: has the same API, and is not supported yet."""


class Snapshots(Section):
    """Snapshots of the secret store, in the object store. They are encrypted with the store's own key."""

    every_hours: Literal[1, 2, 3, 4, 6, 8, 12, 24] = setting(
        Change.SAFE, "Hours between snapshots; a divisor of 24", default=6
    )
    keep_days: int = setting(
        Change.SAFE, "Days that snapshots are kept; the newest three are never deleted", default=7, ge=1, le=365
    )


class SecretStore(Section):
    """The secret store: each service reads its own secrets, and uses its own keys."""

    engine: SecretEngine = setting(Change.IMMUTABLE, "openbao", default=SecretEngine.OPENBAO, strict=False)
    replicas: int = setting(Change.DISRUPTIVE, "Servers: 1, 3 or 5", default=3, ge=1, le=5)
    storage: Storage = setting(Change.SAFE, "Volume of each server", default="1Gi")
    resources: Resources = setting(Change.DISRUPTIVE, "Of each server", default=Resources(cpu="100m", memory="256Mi"))
    snapshots: Snapshots = setting(
        Change.SAFE, "Schedule and retention of snapshots; they need data.objectStore", default=Snapshots()
    )
    seal_secret_name: DnsLabel | None = setting(
        Change.IMMUTABLE,
        "Secret in the platform's namespace; its entry `key` holds the 32 bytes that unseal the store. For several "
        "servers outside AWS",
        default=None,
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        quorum(self.replicas, "servers")
        if self.engine is SecretEngine.VAULT:
            raise violation(
                "engine openbao: Vault cannot initialize and unseal itself from its configuration, and its licence "
                "(BUSL) does not allow every use",
                "remove engine",
            )
        return self


class Security(Section):
    """What keeps an environment safe beside the parts that every environment has."""

    secret_store: SecretStore | None = setting(Change.IMMUTABLE, "Secrets and keys of the services", default=None)

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that its parts run."""
        return (self.secret_store.engine.value,) if self.secret_store else ()
