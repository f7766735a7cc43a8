"""Connection settings for a service: addresses of the data layer's parts that it uses, and its passwords."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi

from components.data.issued_logins import Issuer
from components.data.kafka_cluster import SYSTEM_AUTHORITIES
from components.data.layer import DataLayer
from components.security.store_names import AUDIENCE, CACHE, NATS, POSTGRES
from components.services.record import DataIntent

_AUTHORITY, _STORE_AUTHORITY = "kafka-ca.crt", "secret-store-ca.crt"


@dataclass(frozen=True)
class Bindings:
    """Connection settings as inputs of an `AiService`, by kind."""

    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    secrets: Mapping[str, tuple[pulumi.Input[str], str]] = field(
        default_factory=dict[str, tuple[pulumi.Input[str], str]]
    )
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    versions: tuple[pulumi.Input[str], ...] = ()
    annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    asks: tuple[str, ...] = ()
    """Parts for which its pods have a token."""


@dataclass(frozen=True)
class Postgres:
    """A database of the service's name."""

    host: pulumi.Input[str]
    """Of the connection pool."""
    direct: pulumi.Input[str]
    """Of the server itself."""
    secret: pulumi.Input[str] | Issuer
    """The secret store, where that issues the login."""


@dataclass(frozen=True)
class Kafka:
    """Topics, with a login of the service's name."""

    bootstrap: pulumi.Input[str]
    authority: pulumi.Input[str] | None
    """CA certificate (PEM) of the brokers; None: their certificate is from a public CA."""
    secret: pulumi.Input[str]


@dataclass(frozen=True)
class Server:
    """A server with a login of the service's name."""

    url: pulumi.Input[str]
    secret: pulumi.Input[str] | Issuer
    """The secret store, where that issues the login."""


@dataclass(frozen=True)
class Objects:
    """Buckets."""

    endpoint: pulumi.Input[str]
    secret: pulumi.Input[str] | None
    """None: pods authenticate with an AWS role."""
    place: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """PREFIX of the buckets' names and REGION, where they are not the default."""
    annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])


@dataclass(frozen=True)
class Connections:
    """The data servers that a service uses. Each secret is the name of a Secret with the login's passwords."""

    postgres: Postgres | None = None
    kafka: Kafka | None = None
    cache: Server | None = None
    nats: Server | None = None
    objects: Objects | None = None
    versions: tuple[pulumi.Input[str], ...] = ()
    """Change with the passwords."""
    store: Issuer | None = None
    """The secret store, where the service has keys of its own there."""


def connected(service: str, used: Connections) -> Bindings:
    """The settings of a service that uses these servers."""
    environment: dict[str, pulumi.Input[str]] = {}
    secrets: dict[str, tuple[pulumi.Input[str], str]] = {}
    files: dict[str, pulumi.Input[str]] = {}
    annotations: Mapping[str, pulumi.Input[str]] = {}
    asks: tuple[str, ...] = ()
    by_store: dict[str, Issuer] = {}
    if used.postgres:
        environment["SERVICE_POSTGRES_HOST"] = used.postgres.host
        environment["SERVICE_POSTGRES_DIRECT_HOST"] = used.postgres.direct
        by_store = _log_in(used.postgres.secret, POSTGRES, secrets)
    if used.kafka:
        environment["SERVICE_KAFKA_BOOTSTRAP"] = used.kafka.bootstrap
        secrets["SERVICE_KAFKA_PASSWORD"] = (used.kafka.secret, "kafka")
        environment["SERVICE_KAFKA_AUTHORITY"] = SYSTEM_AUTHORITIES
        if used.kafka.authority is not None:
            environment["SERVICE_KAFKA_AUTHORITY"] = f"/etc/{service}/{_AUTHORITY}"
            files[_AUTHORITY] = used.kafka.authority
    if used.cache:
        environment["SERVICE_CACHE_URL"] = used.cache.url
        by_store |= _log_in(used.cache.secret, CACHE, secrets)
    if used.objects:
        environment["SERVICE_OBJECTS_ENDPOINT"] = used.objects.endpoint
        environment |= {f"SERVICE_OBJECTS_{key}": value for key, value in used.objects.place.items()}
        annotations = used.objects.annotations
        if used.objects.secret is not None:
            secrets["SERVICE_OBJECTS_PASSWORD"] = (used.objects.secret, "objects")
    if used.nats:
        environment["SERVICE_NATS_URL"] = used.nats.url
        by_store |= _log_in(used.nats.secret, NATS, secrets)
    if issuer := next(iter(by_store.values()), used.store):
        environment["SERVICE_STORE_URL"] = issuer.url
        environment["SERVICE_STORE_AUTHORITY"] = f"/etc/{service}/{_STORE_AUTHORITY}"
        environment["SERVICE_STORE_ISSUES"] = json.dumps(list(by_store))
        files[_STORE_AUTHORITY] = issuer.authority
        asks = (AUDIENCE,)
    return Bindings(environment, secrets, files, used.versions, annotations, asks)


def _log_in(
    secret: pulumi.Input[str] | Issuer, system: str, secrets: dict[str, tuple[pulumi.Input[str], str]]
) -> dict[str, Issuer]:
    """How the service logs in: with the password of a Secret, which is added to `secrets`, or at the returned store."""
    if isinstance(secret, Issuer):
        return {system: secret}
    secrets[f"SERVICE_{system.upper()}_PASSWORD"] = (secret, system)
    return {}


def bindings(data: DataLayer, intent: DataIntent) -> Bindings:
    """As a service's intent says, as far as the environment has the parts; a value is known once its part works."""
    service, logins = intent.name, data.logins
    if logins is None:
        return Bindings()
    held: pulumi.Input[str] = logins.secret(service) if service in logins.versions else ""

    def secret(system: str) -> pulumi.Input[str] | Issuer:
        return data.issuer if data.issuer and service in data.issued.get(system, ()) else held

    used = Connections(
        Postgres(data.postgres.host, data.postgres.direct, secret(POSTGRES))
        if intent.database and data.postgres
        else None,
        Kafka(data.kafka.bootstrap, data.kafka.authority, held)
        if (intent.produces or intent.consumes) and data.kafka
        else None,
        Server(data.cache.url, secret(CACHE)) if intent.cache and data.cache else None,
        Server(data.nats.url, secret(NATS)) if intent.speaks and data.nats else None,
        Objects(
            data.objects.endpoint,
            None if data.objects.by_role else held,
            data.objects.place,
            data.objects.annotations.get(service, {}),
        )
        if intent.buckets and data.objects
        else None,
        (logins.versions[service],) if service in logins.versions else (),
        data.issuer if intent.has_store_keys else None,
    )
    found = connected(service, used)
    return found if found.secrets or found.asks else Bindings()
