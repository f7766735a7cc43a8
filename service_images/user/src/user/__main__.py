"""Entry point of the User service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kit import dead_letters, directory, replicas, rpc, service
from kit.bus import Bus
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.in_force import InForce
from kit.kafka import Events, retrying
from kit.quotas import QuotaSettings
from kit.tenant_deletion import ERASED, Erased
from pydantic import Field, SecretStr
from starlette.applications import Starlette

from user import deleting, keys, tables
from user.api import PREFIX, Api
from user.calls import Calls
from user.login import Logins
from user.publishing import TenantPublisher


class UserSettings(QuotaSettings):
    """Settings of the User service."""

    name: str = "user"
    installation_tenant: str = "default"
    installation_key: SecretStr = SecretStr("")
    """The installation key, which has all rights. A new value here revokes the previous key."""
    oidc_issuer: str = ""
    """Issuer URL of the identity provider, such as https://keycloak/realms/platform; empty disables logins."""
    oidc_address: str = ""
    """URL at which this service reaches the provider, if the issuer's URL is for browsers only."""
    oidc_authority: str = ""
    """CA certificate (PEM) of that URL; empty: public CAs."""
    oidc_audience: str = ""
    """Audience of access tokens that programs exchange for keys, if the provider is the platform's own; else empty."""
    oidc_programs: tuple[str, ...] = ()
    """Clients whose access tokens people exchange for keys with all their rights, such as `forge` on their machines."""
    oidc_delegates: dict[str, tuple[str, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    """Clients that act for people, each with the scopes that its keys have at most."""
    oidc_client: str = "cogniforge"
    oidc_secret: SecretStr = SecretStr("")
    oidc_redirect: str = ""
    """URL of this service's /v1/callback for browsers."""
    oidc_arrival: str = ""
    """Path that receives browsers after a login that began on a page; empty: no service has pages."""
    erased_by: tuple[str, ...] = ()
    """Services that erase the data of deleted tenants and acknowledge the erasure."""


def create(settings: UserSettings) -> Starlette:
    """The application."""
    database = Database(settings)
    nats = Bus(settings) if settings.nats_url else None
    publisher = TenantPublisher(database, nats, settings.erased_by) if nats else None
    secret = settings.oidc_secret.get_secret_value()
    logins = (
        Logins(
            settings.oidc_issuer,
            settings.oidc_client,
            secret,
            settings.oidc_redirect,
            settings.oidc_address,
            settings.oidc_authority,
            settings.oidc_audience,
            settings.oidc_programs,
            settings.oidc_delegates,
        )
        if settings.oidc_issuer
        else None
    )
    in_force = InForce(nats, directory.BUCKET, tables.POLICIES) if nats else None
    most = tables.QUOTAS.given(settings.quotas, settings.quotas_of)
    api = Api(database, publisher, logins, settings.erased_by, in_force, most, settings.oidc_arrival)
    letters = publisher.letters if publisher else DeadLetters(database)

    async def acknowledge(batch: Sequence[dict[str, Any]]) -> None:
        async with database.transaction() as connection:
            for event in batch:
                await deleting.acknowledge(connection, event["data"]["tenant"], event["data"]["service"])

    letters.also(ERASED, retrying(acknowledge, Erased))
    erased = Events(settings, [ERASED], acknowledge, letters, Erased) if settings.kafka_bootstrap else None
    calls = rpc.Server(settings, Calls(api).add)
    key = settings.installation_key.get_secret_value()

    async def install() -> None:
        async with database.transaction() as connection:
            await keys.install(connection, settings.installation_tenant, key)
        if publisher is not None:
            publisher.wake()

    installing = service.Once(install, "the installation key is not stored yet") if key else None
    return service.create(
        "User",
        [*api.operations(), *dead_letters.operations(PREFIX, letters), *replicas.operations(PREFIX, in_force)],
        database=database,
        beside=[part for part in (publisher, in_force, installing, calls, erased) if part],
        close=[part.close for part in (nats, logins) if part],
        checks={
            "callers": calls.check,
            **({"key": installing.check} if installing else {}),
            **({"kafka": erased.check} if erased else {}),
        },
        authenticate=api.authenticate,
    )


def main() -> int:
    """Serve."""
    return service.main(UserSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
