"""What the services' records ask of the data layer: databases, logins, topics and accounts. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from components.config.data import Data
from components.data import cache, kafka_cluster, nats, object_store
from components.data.change_data_capture import CONNECT
from components.data.kafka_access import capture_rights
from components.data.kafka_inputs import KafkaUserArgs
from components.data.nats_inputs import NatsAccountArgs
from components.data.postgres_inputs import CAPTURE, SUPERUSER, DatabaseArgs
from components.data.schema_registry import REGISTRY, WRITER
from components.security.store_names import CACHE, ISSUER, POSTGRES
from components.services.record import DataIntent

VECTORS = "vectors"
"""Database and login of the vector database's collections where no service owns them."""


def topics(records: Mapping[str, DataIntent]) -> list[str]:
    """Every topic that a service writes or reads."""
    return sorted({topic for one in records.values() for topic in (*one.produces, *one.outbox, *one.consumes)})


def kafka_users(records: Mapping[str, DataIntent], capture: bool) -> list[KafkaUserArgs]:
    """The logins of Kafka; `capture`: change data capture writes what services put into their outboxes."""
    users: list[KafkaUserArgs] = [
        {"name": one.name, "produces": list(one.produces), "consumes": list(one.consumes)}
        for one in records.values()
        if one.produces or one.consumes
    ]
    outboxes = [topic for one in records.values() for topic in one.outbox]
    if capture:
        users.append({"name": CAPTURE, "produces": outboxes, "rights": capture_rights()})
    return users


def nats_account(record: DataIntent) -> NatsAccountArgs:
    """The account of a service."""
    return {
        "name": record.name,
        "sends": list(record.sends),
        "hears": list(record.hears),
        "keeps": list(record.keeps),
        "follows": list(record.follows),
    }


def databases(
    config: Data, records: Mapping[str, DataIntent], owners: Iterable[str] = (), issued: Sequence[str] = ()
) -> list[DatabaseArgs]:
    """A database for each service that owns one, for the schema registry, and for each of `owners`."""
    found: list[DatabaseArgs] = [
        {
            "name": one.name,
            "extensions": list(one.extensions),
            "outbox": bool(one.outbox),
            "issued": one.name in issued,
        }
        for one in records.values()
        if one.database
    ]
    if config.vector_database and owner_of_collections(records) == VECTORS:
        found.append({"name": VECTORS, "extensions": ["vector"]})
    return [*found, {"name": REGISTRY}, *({"name": owner} for owner in owners)]


def owner_of_collections(records: Mapping[str, DataIntent]) -> str:
    """The service that owns the vector database's collections; without one they have a database of their own."""
    return next((one.name for one in records.values() if one.collections), VECTORS)


def login_systems(
    config: Data,
    records: Mapping[str, DataIntent],
    buckets: Iterable[str] = (),
    owners: Iterable[str] = (),
    issued: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[str]]:
    """Enabled systems for which each login has a password, by login.

    `buckets`: logins that only own buckets; `owners`: logins that only own a database; `issued`: services whose logins
    the secret store issues, by system.
    """
    by_store = issued or {}
    wanted: dict[str, list[str]] = {
        SUPERUSER: ["postgres"] if config.postgres and config.postgres.rds else ["postgres", "objects"],
        kafka_cluster.OWNER: ["kafka"] if config.kafka and config.kafka.msk else [],
        REGISTRY: ["postgres"],
        VECTORS: ["postgres"] if config.vector_database and owner_of_collections(records) == VECTORS else [],
        CAPTURE: ["postgres", "kafka"] if config.change_data_capture else [],
        CONNECT: [CONNECT] if config.change_data_capture else [],
        WRITER: [WRITER] if config.schema_registry else [],
        nats.OWNER: ["nats"],
        cache.OWNER: ["cache"],
        object_store.OWNER: ["objects"],
        **{owner: ["objects"] for owner in buckets},
        **{owner: ["postgres"] for owner in owners},
        ISSUER: [system for system in (POSTGRES, CACHE) if by_store.get(system)],
    }
    for intent in records.values():
        asked = [
            *(["nats"] if intent.speaks else []),
            *([POSTGRES] if intent.database else []),
            *(["kafka"] if intent.produces or intent.consumes else []),
            *([CACHE] if intent.cache else []),
            *(["objects"] if intent.buckets else []),
        ]
        wanted[intent.name] = [system for system in asked if intent.name not in by_store.get(system, ())]
    there = {
        "postgres": config.postgres,
        # Pods authenticate to S3 with an IAM role instead of a password.
        "objects": None if config.object_store and config.object_store.s3 else config.object_store,
        "nats": config.nats,
        "cache": config.cache,
        "kafka": config.kafka,
        CONNECT: config.change_data_capture,
        WRITER: config.schema_registry,
    }
    found = {login: [s for s in systems if there[s] is not None] for login, systems in wanted.items()}
    return {login: systems for login, systems in found.items() if systems}
