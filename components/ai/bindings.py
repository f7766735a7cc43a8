"""Connection settings for a service: addresses of the data layer's parts that it uses, and its passwords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi

from components.data.kafka_cluster import SYSTEM_AUTHORITIES
from components.data.layer import DataLayer
from components.services.record import DataIntent

_AUTHORITY = "kafka-ca.crt"


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


def bindings(data: DataLayer, intent: DataIntent) -> Bindings:
    """As a service's intent says, as far as the environment has the parts; a value is known once its part works."""
    service, logins = intent.name, data.logins
    if logins is None:
        return Bindings()
    environment: dict[str, pulumi.Input[str]] = {}
    secrets: dict[str, tuple[pulumi.Input[str], str]] = {}
    files: dict[str, pulumi.Input[str]] = {}
    annotations: Mapping[str, pulumi.Input[str]] = {}
    if intent.database and data.postgres:
        environment["SERVICE_POSTGRES_HOST"] = data.postgres.host
        environment["SERVICE_POSTGRES_DIRECT_HOST"] = data.postgres.direct
        secrets["SERVICE_POSTGRES_PASSWORD"] = (logins.secret(service), "postgres")
    if (intent.produces or intent.consumes) and data.kafka:
        environment["SERVICE_KAFKA_BOOTSTRAP"] = data.kafka.bootstrap
        secrets["SERVICE_KAFKA_PASSWORD"] = (logins.secret(service), "kafka")
        environment["SERVICE_KAFKA_AUTHORITY"] = SYSTEM_AUTHORITIES
        if data.kafka.authority is not None:
            environment["SERVICE_KAFKA_AUTHORITY"] = f"/etc/{service}/{_AUTHORITY}"
            files[_AUTHORITY] = data.kafka.authority
    if intent.cache and data.cache:
        environment["SERVICE_CACHE_URL"] = data.cache.url
        secrets["SERVICE_CACHE_PASSWORD"] = (logins.secret(service), "cache")
    if intent.buckets and data.objects:
        environment["SERVICE_OBJECTS_ENDPOINT"] = data.objects.endpoint
        environment |= {f"SERVICE_OBJECTS_{key}": value for key, value in data.objects.place.items()}
        annotations = data.objects.annotations.get(service, {})
        if not data.objects.by_role:
            secrets["SERVICE_OBJECTS_PASSWORD"] = (logins.secret(service), "objects")
    if (intent.sends or intent.hears or intent.keeps or intent.follows) and data.nats:
        environment["SERVICE_NATS_URL"] = data.nats.url
        secrets["SERVICE_NATS_PASSWORD"] = (logins.secret(service), "nats")
    if not secrets:
        return Bindings()
    return Bindings(environment, secrets, files, (logins.versions[service],), annotations)
