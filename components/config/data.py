"""The data section of the configuration: databases, messaging, cache, object store. All its parts are optional."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import model_validator

from components.config.base import (
    Change,
    DnsLabel,
    Resources,
    Section,
    first_duplicate,
    matching,
    quantity,
    setting,
    several,
)
from components.config.base import quantity_between as between
from components.config.managed import S3, Msk, Rds
from components.config.pod import (
    KafkaPod,
    MeteredPod,
    NatsPod,
    Placement,
    Pod,
    PostgresPod,
    RegistryPod,
    placed_only,
    pod_setting,
)
from components.config.problems import violation

Storage = Annotated[str, between("64Mi", "64Ti", "10Gi")]
"""The size of a volume as a Kubernetes quantity. It can grow, never shrink."""


RDS_KEEP_DAYS, RDS_LEAST = 35, "20Gi"
"""Limits of RDS with gp3 volumes. Source: Amazon RDS user guide, "Backup retention period", "DB instance storage"."""
MSK_BROKERS = 3
"""MSK needs equally many brokers in each zone, and the platform's network has three zones."""


def quorum(replicas: int, what: str) -> None:
    """Refuse an even number of servers that elect a leader."""
    if replicas % 2 == 0:
        raise violation(
            f"1, 3 or 5 {what}: an even number tolerates no more failures than one fewer",
            f"set replicas to {replicas - 1} or {replicas + 1}",
        )


class Backup(Section):
    """Base backups to the object store. The write-ahead log is archived continuously, too."""

    every_hours: int = setting(Change.SAFE, "Hours between base backups", default=24, ge=1, le=168)
    keep_days: int = setting(
        Change.SAFE, "Days that backups are kept: how far back a restore can go", default=7, ge=1, le=365
    )


class Postgres(Section):
    """PostgreSQL. Each service that owns tables gets a database and a login."""

    storage: Storage = setting(Change.SAFE, "Size of the server's volume", default="10Gi")
    resources: Resources = setting(
        Change.DISRUPTIVE, "Resources of the server", default=Resources(cpu="250m", memory="1Gi")
    )
    pod: PostgresPod = pod_setting(PostgresPod)
    max_connections: int = setting(Change.DISRUPTIVE, "Most connections to the server", default=100, ge=20, le=5000)
    pool_size: int = setting(
        Change.SAFE, "Most server connections per login through the connection pool", default=10, ge=1, le=500
    )
    backup: Backup = setting(Change.SAFE, "Schedule and retention of base backups", default=Backup())
    rds: Rds | None = setting(Change.IMMUTABLE, "Run on Amazon RDS instead of in a pod", default=None)

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
    """Kafka, which carries the events of all services."""

    replicas: int = setting(Change.DISRUPTIVE, "Number of brokers: 1, 3 or 5", default=3, ge=1, le=5)
    storage: Storage = setting(Change.SAFE, "Size of each broker's volume", default="20Gi")
    resources: Resources = setting(Change.SAFE, "Resources per broker", default=Resources(cpu="250m", memory="1Gi"))
    pod: KafkaPod = pod_setting(KafkaPod)
    retention_hours: int = setting(Change.SAFE, "Hours that events are kept", default=168, ge=1, le=87_600)
    partitions: int = setting(Change.SAFE, "Partitions per topic; the number can only grow", default=6, ge=1, le=1000)
    msk: Msk | None = setting(Change.IMMUTABLE, "Run on Amazon MSK instead of in pods", default=None)

    @model_validator(mode="after")
    def _msk_takes_it(self) -> Self:
        if self.msk and self.replicas != MSK_BROKERS:
            raise violation(f"with msk, {MSK_BROKERS} brokers: one in each zone", f"set replicas to {MSK_BROKERS}")
        if self.msk:
            placed_only(self.pod, "msk")
        return self

    @model_validator(mode="after")
    def _odd(self) -> Self:
        quorum(self.replicas, "brokers")
        return self


class Compatibility(StrEnum):
    """Compatibility rule for new versions of an event's schema."""

    BACKWARD = "BACKWARD"
    """Consumers with the new schema read old events."""
    FORWARD = "FORWARD"
    """Consumers with the old schema read new events."""
    FULL = "FULL"
    """Both directions."""


class SchemaRegistry(Section):
    """Apicurio Registry, which serves event schemas with Confluent's API and stores them in PostgreSQL."""

    replicas: int = setting(Change.SAFE, "Number of replicas", default=1, ge=1, le=10)
    resources: Resources = setting(Change.SAFE, "Resources per replica", default=Resources(cpu="100m", memory="640Mi"))
    pod: RegistryPod = pod_setting(RegistryPod)
    compatibility: Compatibility = setting(
        Change.SAFE,
        "Compatibility of new schema versions: BACKWARD, FORWARD or FULL",
        default=Compatibility.BACKWARD,
        strict=False,
    )


class ChangeDataCapture(Section):
    """Debezium on Kafka Connect, which publishes rows of the services' outbox tables to Kafka."""

    replicas: int = setting(Change.SAFE, "Number of Kafka Connect workers", default=1, ge=1, le=10)
    resources: Resources = setting(Change.SAFE, "Resources per worker", default=Resources(cpu="100m", memory="768Mi"))
    pod: Pod = pod_setting(Pod)


class Nats(Section):
    """NATS with JetStream, for messages between services. Each service has its own subjects."""

    replicas: int = setting(Change.DISRUPTIVE, "Number of servers: 1, 3 or 5", default=3, ge=1, le=5)
    storage: Storage = setting(Change.SAFE, "Size of each server's JetStream volume", default="5Gi")
    resources: Resources = setting(Change.SAFE, "Resources per server", default=Resources(cpu="100m", memory="256Mi"))
    pod: NatsPod = pod_setting(NatsPod)

    @model_validator(mode="after")
    def _odd(self) -> Self:
        quorum(self.replicas, "servers")
        return self


class Eviction(StrEnum):
    """Which keys a full cache evicts. The names are Redis' `maxmemory-policy`."""

    ALLKEYS_LRU = "allkeys-lru"
    """The least recently used keys."""
    ALLKEYS_LFU = "allkeys-lfu"
    """The least frequently used keys."""
    VOLATILE_TTL = "volatile-ttl"
    """The keys that expire soonest."""
    NOEVICTION = "noeviction"
    """None: writes are refused."""


class Persistence(StrEnum):
    """What the cache still holds after a restart."""

    NONE = "none"
    """Nothing."""
    AOF = "aof"
    """All but the last second: the append-only file is flushed every second."""
    ALWAYS = "always"
    """All acknowledged writes: each write is flushed to disk before its answer, which makes writes slower."""


class Cache(Section):
    """Redis or Valkey, for short-lived data. Each service can access its own keys only."""

    storage: Storage = setting(Change.SAFE, "Size of the volume; used with persistence only", default="2Gi")
    resources: Resources = setting(
        Change.DISRUPTIVE,
        "Resources of the server; three quarters of the memory hold data",
        default=Resources(cpu="100m", memory="256Mi"),
    )
    pod: MeteredPod = pod_setting(MeteredPod)
    eviction: Eviction = setting(
        Change.SAFE,
        "Eviction when the cache is full: allkeys-lru, allkeys-lfu, volatile-ttl or noeviction",
        default=Eviction.ALLKEYS_LRU,
        strict=False,
    )
    persistence: Persistence = setting(
        Change.DISRUPTIVE, "Durability of writes: none, aof or always", default=Persistence.NONE, strict=False
    )


class ObjectStore(Section):
    """S3-compatible object store for backups and uploaded documents."""

    storage: Storage = setting(Change.SAFE, "Size of the server's volume", default="20Gi")
    resources: Resources = setting(
        Change.SAFE, "Resources of the server", default=Resources(cpu="100m", memory="256Mi")
    )
    pod: MeteredPod = pod_setting(MeteredPod)
    s3: S3 | None = setting(Change.IMMUTABLE, "Use Amazon S3 instead of a pod", default=None)

    @model_validator(mode="after")
    def _s3_takes_it(self) -> Self:
        if self.s3:
            placed_only(self.pod, "s3")
        return self


class Metric(StrEnum):
    """Distance function between two vectors."""

    COSINE = "cosine"
    L2 = "l2"
    DOT = "dot"


class Collection(Section):
    """One collection of vectors."""

    name: DnsLabel = setting(Change.IMMUTABLE, "Name of the collection")
    dimension: int = setting(Change.IMMUTABLE, "Dimension of the vectors", ge=1, le=2000)
    metric: Metric = setting(
        Change.IMMUTABLE, "Distance function: cosine, l2 or dot", default=Metric.COSINE, strict=False
    )
    links: int = setting(Change.DISRUPTIVE, "HNSW index: links per node (m)", default=16, ge=2, le=100)
    build_effort: int = setting(
        Change.DISRUPTIVE,
        "HNSW index: candidates considered while building (ef_construction)",
        default=128,
        ge=4,
        le=1000,
    )

    @model_validator(mode="after")
    def _effort(self) -> Self:
        if self.build_effort < 2 * self.links:
            raise violation("buildEffort at least twice links", f"set buildEffort to {2 * self.links} or more")
        return self


class VectorEngine(StrEnum):
    """Engine that stores vectors."""

    PGVECTOR = "pgvector"
    """The platform's PostgreSQL, with HNSW indexes."""
    WEAVIATE = "weaviate"
    """Your own Weaviate server, given by its URL."""
    MILVUS = "milvus"
    """Your own Milvus server, given by its URL."""
    PINECONE = "pinecone"
    """An index at Pinecone, given by the URL of its host."""


class VectorServer(Section):
    """A vector engine that runs outside the platform."""

    url: Annotated[
        str, matching(r"https?://[^\s]+", "an http(s) URL", 'write it like "https://weaviate.example.com"')
    ] = setting(Change.DISRUPTIVE, "URL of the server")
    secret_name: DnsLabel = setting(
        Change.SAFE, 'Secret in the platform\'s namespace; its entry "key" holds the API key'
    )


class VectorDatabase(Section):
    """The vector database, and its collections."""

    engine: VectorEngine = setting(
        Change.IMMUTABLE, "Engine: pgvector, weaviate, milvus or pinecone", default=VectorEngine.PGVECTOR, strict=False
    )
    server: VectorServer | None = setting(
        Change.DISRUPTIVE, "Address and credential; required with every engine except pgvector", default=None
    )
    collections: tuple[Collection, ...] = several(Change.SAFE, "Collections of vectors", 100)
    pod: Placement = pod_setting(Placement)

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if duplicate := first_duplicate(tuple(c.name for c in self.collections)):
            raise violation(f'names of collections must be unique; "{duplicate}" occurs twice', "rename one")
        if (self.engine is VectorEngine.PGVECTOR) != (self.server is None):
            fix = "add server with url and secretName" if self.server is None else "remove server"
            raise violation("server is required with every engine except pgvector, and not allowed with pgvector", fix)
        return self


class Data(Section):
    """Databases, messaging, cache and object store. A part without a section is not deployed."""

    destroy_data: bool = setting(
        Change.SAFE, "Whether `destroy` may delete volumes; if false, `destroy` lists them and refuses", default=False
    )
    credentials_generation: int = setting(
        Change.DISRUPTIVE, "Raise it to give every login a new password", default=1, ge=1, le=1_000_000
    )
    postgres: Postgres | None = setting(Change.IMMUTABLE, "PostgreSQL", default=None)
    object_store: ObjectStore | None = setting(Change.IMMUTABLE, "Object store", default=None)
    nats: Nats | None = setting(Change.DISRUPTIVE, "NATS with JetStream", default=None)
    kafka: Kafka | None = setting(Change.IMMUTABLE, "Kafka", default=None)
    cache: Cache | None = setting(Change.DISRUPTIVE, "Redis or Valkey", default=None)
    schema_registry: SchemaRegistry | None = setting(Change.DISRUPTIVE, "Registry of event schemas", default=None)
    change_data_capture: ChangeDataCapture | None = setting(
        Change.DISRUPTIVE, "Publishes outbox tables to Kafka", default=None
    )
    vector_database: VectorDatabase | None = setting(Change.IMMUTABLE, "Vector database", default=None)

    @property
    def backup_days(self) -> int:
        """Days that backups of PostgreSQL are kept; 0 if PostgreSQL is not backed up."""
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
    """Paths of volumes that would become smaller. Kubernetes volumes cannot shrink."""
    found: list[str] = []
    for name, path in _FIELDS.items():
        old, new = getattr(getattr(before, name), "storage", None), getattr(getattr(after, name), "storage", None)
        if old and new and quantity(new) < quantity(old):
            found.append(f"data.{path}.storage")
    return found
