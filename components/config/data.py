"""The data part of the configuration: databases, messaging, cache, objects. A part that is not named is not made."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import model_validator

from components.config.base import Change, DnsLabel, Resources, Section, first_duplicate, matching, quantity, setting
from components.config.base import quantity_between as between
from components.config.managed import S3, Msk, Rds
from components.config.problems import violation

Storage = Annotated[str, between("64Mi", "64Ti", "10Gi")]
"""The size of a volume as a Kubernetes quantity. It can grow, never shrink."""


RDS_KEEP_DAYS, RDS_LEAST = 35, "20Gi"
"""Limits of RDS with gp3 volumes. Source: Amazon RDS user guide, "Backup retention period", "DB instance storage"."""
MSK_BROKERS = 3
"""MSK wants as many brokers in each zone, and a network of the platform's has three zones."""


def _quorum(replicas: int, what: str) -> None:
    if replicas % 2 == 0:
        raise violation(
            f"1, 3 or 5 {what}: with an even number one failure stops all, as with one less",
            f"set replicas to {replicas - 1} or {replicas + 1}",
        )


class Backup(Section):
    """Base backups to the object store; the write-ahead log is archived continuously beside them."""

    every_hours: int = setting(Change.SAFE, "Hours between base backups", default=24, ge=1, le=168)
    keep_days: int = setting(Change.SAFE, "Days that one can go back", default=7, ge=1, le=365)


class Postgres(Section):
    """PostgreSQL: a database and a login for each service that owns tables."""

    storage: Storage = setting(Change.SAFE, "Volume of the server", default="10Gi")
    resources: Resources = setting(Change.DISRUPTIVE, "Of the server", default=Resources(cpu="250m", memory="1Gi"))
    max_connections: int = setting(Change.DISRUPTIVE, "Connections of the server", default=100, ge=20, le=5000)
    pool_size: int = setting(Change.SAFE, "Server connections of each login through the pool", default=10, ge=1, le=500)
    backup: Backup = setting(Change.SAFE, "Base backups", default=Backup())
    rds: Rds | None = setting(Change.IMMUTABLE, "On Amazon RDS in place of a pod", default=None)

    @model_validator(mode="after")
    def _rds_takes_it(self) -> Self:
        if self.rds and self.backup.keep_days > RDS_KEEP_DAYS:
            raise violation(f"with rds, keepDays at most {RDS_KEEP_DAYS}", f"lower keepDays to {RDS_KEEP_DAYS} or less")
        if self.rds and quantity(self.storage) < quantity(RDS_LEAST):
            raise violation(f"with rds, storage at least {RDS_LEAST}", f"set storage to {RDS_LEAST} or more")
        return self

    @model_validator(mode="after")
    def _pool_fits(self) -> Self:
        if self.pool_size > self.max_connections // 4:
            most = self.max_connections // 4
            raise violation(
                f"poolSize at most a quarter of maxConnections ({most}): several services share the server",
                f"lower poolSize to {most}, or raise maxConnections",
            )
        return self


class Kafka(Section):
    """Kafka: the events of all services."""

    replicas: int = setting(Change.DISRUPTIVE, "Brokers: 1, 3 or 5", default=3, ge=1, le=5)
    storage: Storage = setting(Change.SAFE, "Volume of each broker", default="20Gi")
    resources: Resources = setting(Change.SAFE, "Of each broker", default=Resources(cpu="250m", memory="1Gi"))
    retention_hours: int = setting(Change.SAFE, "How long events are kept", default=168, ge=1, le=87_600)
    partitions: int = setting(Change.SAFE, "Partitions of each topic; can only grow", default=6, ge=1, le=1000)
    msk: Msk | None = setting(Change.IMMUTABLE, "On Amazon MSK in place of pods", default=None)

    @model_validator(mode="after")
    def _msk_takes_it(self) -> Self:
        if self.msk and self.replicas != MSK_BROKERS:
            raise violation(f"with msk, {MSK_BROKERS} brokers: one in each zone", f"set replicas to {MSK_BROKERS}")
        return self

    @model_validator(mode="after")
    def _odd(self) -> Self:
        _quorum(self.replicas, "brokers")
        return self


class Compatibility(StrEnum):
    """What a new version of a schema may change."""

    BACKWARD = "BACKWARD"
    """New consumers read old events."""
    FORWARD = "FORWARD"
    """Old consumers read new events."""
    FULL = "FULL"
    """Both."""


class SchemaRegistry(Section):
    """Apicurio Registry: the schema of each event, with Confluent's API. Keeps them in PostgreSQL."""

    replicas: int = setting(Change.SAFE, "Replicas", default=1, ge=1, le=10)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="100m", memory="640Mi"))
    compatibility: Compatibility = setting(
        Change.SAFE, "What a new version of a schema may change", default=Compatibility.BACKWARD, strict=False
    )


class ChangeDataCapture(Section):
    """Debezium on Kafka Connect: what services put into their outbox goes to Kafka."""

    replicas: int = setting(Change.SAFE, "Connect workers", default=1, ge=1, le=10)
    resources: Resources = setting(Change.SAFE, "Per worker", default=Resources(cpu="100m", memory="768Mi"))


class Nats(Section):
    """NATS with JetStream: messages between services, each within its own subjects."""

    replicas: int = setting(Change.DISRUPTIVE, "Servers: 1, 3 or 5", default=3, ge=1, le=5)
    storage: Storage = setting(Change.SAFE, "JetStream volume of each server", default="5Gi")
    resources: Resources = setting(Change.SAFE, "Of each server", default=Resources(cpu="100m", memory="256Mi"))

    @model_validator(mode="after")
    def _odd(self) -> Self:
        _quorum(self.replicas, "servers")
        return self


class Eviction(StrEnum):
    """What a full cache does."""

    ALLKEYS_LRU = "allkeys-lru"
    """Drops what was not used for longest."""
    ALLKEYS_LFU = "allkeys-lfu"
    """Drops what is used least."""
    VOLATILE_TTL = "volatile-ttl"
    """Drops what would expire soonest."""
    NOEVICTION = "noeviction"
    """Refuses writes."""


class Persistence(StrEnum):
    """What is left of the cache after a restart."""

    NONE = "none"
    """Nothing."""
    AOF = "aof"
    """All but the last second: every write is logged."""
    ALWAYS = "always"
    """All that was acknowledged: every write is on the disk before its answer. Slower by a flush a write."""


class Cache(Section):
    """Redis or Valkey: what services keep for a while. Each service sees its own keys only."""

    storage: Storage = setting(Change.SAFE, "Volume, with persistence", default="2Gi")
    resources: Resources = setting(
        Change.DISRUPTIVE, "Three quarters of the memory hold data", default=Resources(cpu="100m", memory="256Mi")
    )
    eviction: Eviction = setting(Change.SAFE, "What a full cache does", default=Eviction.ALLKEYS_LRU, strict=False)
    persistence: Persistence = setting(Change.DISRUPTIVE, "none, aof or always", default=Persistence.NONE, strict=False)


class ObjectStore(Section):
    """Buckets: backups and uploaded documents."""

    storage: Storage = setting(Change.SAFE, "Volume of the server", default="20Gi")
    resources: Resources = setting(Change.SAFE, "Of the server", default=Resources(cpu="100m", memory="256Mi"))
    s3: S3 | None = setting(Change.IMMUTABLE, "In Amazon S3 in place of a pod", default=None)


class Metric(StrEnum):
    """How near two vectors are."""

    COSINE = "cosine"
    L2 = "l2"
    DOT = "dot"


class Collection(Section):
    """One set of vectors."""

    name: DnsLabel = setting(Change.IMMUTABLE, "Name of the collection")
    dimension: int = setting(Change.IMMUTABLE, "Numbers in a vector", ge=1, le=2000)
    metric: Metric = setting(Change.IMMUTABLE, "cosine, l2 or dot", default=Metric.COSINE, strict=False)
    links: int = setting(Change.DISRUPTIVE, "HNSW: links of each node (m)", default=16, ge=2, le=100)
    build_effort: int = setting(
        Change.DISRUPTIVE, "HNSW: candidates while building (ef_construction)", default=128, ge=4, le=1000
    )

    @model_validator(mode="after")
    def _effort(self) -> Self:
        if self.build_effort < 2 * self.links:
            raise violation("buildEffort at least twice links", f"set buildEffort to {2 * self.links} or more")
        return self


class VectorEngine(StrEnum):
    """Where vectors are kept."""

    PGVECTOR = "pgvector"
    """In PostgreSQL, with HNSW indexes."""
    WEAVIATE = "weaviate"
    """A Weaviate of yours, by its URL."""
    MILVUS = "milvus"
    """A Milvus of yours, by its URL."""
    PINECONE = "pinecone"
    """An index at Pinecone, by its host."""


class VectorServer(Section):
    """An engine that the platform does not run itself."""

    url: Annotated[
        str, matching(r"https?://[^\s]+", "an http(s) URL", 'write it like "https://weaviate.example.com"')
    ] = setting(Change.DISRUPTIVE, "Where it is")
    secret_name: DnsLabel = setting(Change.SAFE, 'Secret in the platform\'s namespace; its entry "key" is the API key')


class VectorDatabase(Section):
    """The vector database, and its collections."""

    engine: VectorEngine = setting(
        Change.IMMUTABLE, "pgvector, weaviate, milvus or pinecone", default=VectorEngine.PGVECTOR, strict=False
    )
    server: VectorServer | None = setting(Change.DISRUPTIVE, "With any engine but pgvector", default=None)
    collections: tuple[Collection, ...] = setting(
        Change.SAFE, "Sets of vectors", default=(), max_length=100, strict=False
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if duplicate := first_duplicate(tuple(c.name for c in self.collections)):
            raise violation(f'names of collections must be unique; "{duplicate}" is there twice', "rename one")
        if (self.engine is VectorEngine.PGVECTOR) != (self.server is None):
            fix = "add server with url and secretName" if self.server is None else "remove server"
            raise violation("server belongs to every engine but pgvector", fix)
        return self


class Data(Section):
    """What the services keep and how they talk."""

    destroy_data: bool = setting(
        Change.SAFE, "Whether `destroy` may delete volumes; else it is refused with the list", default=False
    )
    credentials_generation: int = setting(
        Change.DISRUPTIVE, "Raise it to give every login a new password", default=1, ge=1, le=1_000_000
    )
    postgres: Postgres | None = setting(Change.IMMUTABLE, "Databases", default=None)
    object_store: ObjectStore | None = setting(Change.IMMUTABLE, "Buckets", default=None)
    nats: Nats | None = setting(Change.DISRUPTIVE, "Messages", default=None)
    kafka: Kafka | None = setting(Change.IMMUTABLE, "Events", default=None)
    cache: Cache | None = setting(Change.DISRUPTIVE, "Cache", default=None)
    schema_registry: SchemaRegistry | None = setting(Change.DISRUPTIVE, "Schemas of events", default=None)
    change_data_capture: ChangeDataCapture | None = setting(Change.DISRUPTIVE, "From tables to events", default=None)
    vector_database: VectorDatabase | None = setting(Change.IMMUTABLE, "Vectors", default=None)

    @property
    def backup_days(self) -> int:
        """For how long backups of PostgreSQL are kept; 0: there are none."""
        postgres = self.postgres
        backed_up = postgres is not None and (postgres.rds is not None or self.object_store is not None)
        return postgres.backup.keep_days if postgres is not None and backed_up else 0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, needs in _NEEDS.items():
            if getattr(self, name) is None:
                continue
            for needed in needs:
                if getattr(self, needed) is None:
                    shown, other = _FIELDS[name], _FIELDS[needed]
                    raise violation(f"{shown} needs {other}", f"add `{other}: {{}}`, or remove {shown}")
        return self


_NEEDS = {
    "schema_registry": ("postgres",),
    "change_data_capture": ("postgres", "kafka"),
    "vector_database": ("postgres",),
}
_FIELDS = {
    name: "".join(word.capitalize() if i else word for i, word in enumerate(name.split("_")))
    for name in Data.model_fields
}


def shrunk(before: Data, after: Data) -> list[str]:
    """Paths of volumes that would become smaller. No file system can do that."""
    found: list[str] = []
    for name, path in _FIELDS.items():
        old, new = getattr(getattr(before, name), "storage", None), getattr(getattr(after, name), "storage", None)
        if old and new and quantity(new) < quantity(old):
            found.append(f"data.{path}.storage")
    return found
