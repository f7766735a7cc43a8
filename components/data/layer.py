"""The data layer of an environment: its enabled parts, and what each part takes from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pulumi
from pydantic.alias_generators import to_camel

from components.base import PART_OF, PlatformComponent
from components.cluster.aws_site import AwsSiteArgs
from components.config.data import Data
from components.data import (
    cache,
    change_data_capture,
    issued_logins,
    kafka_cluster,
    nats,
    needs,
    object_store,
    postgres_cluster,
    schema_registry,
)
from components.data.cache import Cache
from components.data.change_data_capture import ChangeDataCapture
from components.data.exporter import IMAGE as EXPORTERS
from components.data.issued_logins import Issuer, StoreSite
from components.data.kafka_cluster import KafkaCluster
from components.data.nats import Nats
from components.data.object_store import ObjectStore
from components.data.postgres_cluster import PostgresCluster
from components.data.postgres_inputs import SUPERUSER, BackupStoreArgs
from components.data.schema_registry import REGISTRY, SchemaRegistry
from components.data.server import DataServer
from components.data.task import DataTask
from components.data.vector_database import VectorDatabase
from components.pods import customized
from components.security.logins import Logins
from components.security.store_names import CACHE, NATS, POSTGRES
from components.services.record import DataIntent

IMAGES = {
    "postgres": ("postgres", EXPORTERS),
    "object_store": ("object-store", "data-tasks", EXPORTERS),
    "nats": ("nats", "data-tasks", EXPORTERS),
    "kafka": ("kafka", "data-tasks"),
    "cache": ("cache", "data-tasks", EXPORTERS),
    "schema_registry": ("schema-registry", "data-tasks", "gateway"),
    "change_data_capture": ("kafka", "data-tasks"),
}
"""Names of each part's images, by the configuration field that enables the part."""
BUCKET = "postgres-backup"


_ON_POSTGRES = ("schema-registry", "change-data-capture", "vector-database")


class DataLayerResources(NamedTuple):
    """Resources of the data layer."""

    logins: Logins | None
    postgres: PostgresCluster | None
    kafka: KafkaCluster | None
    nats: Nats | None
    cache: Cache | None
    object_store: ObjectStore | None
    others: Mapping[str, PlatformComponent]
    """Schema registry, change data capture and vector database by name."""
    connection: DataTask | None
    """Task that connects the secret store to the servers for which it issues logins."""


class DataLayer(PlatformComponent):
    """Databases, messaging, cache and object store, with their common logins."""

    parts: dict[str, PlatformComponent]
    """Enabled parts by name."""
    nats: Nats | None
    postgres: PostgresCluster | None
    kafka: KafkaCluster | None
    cache: Cache | None
    objects: ObjectStore | None
    logins: Logins | None
    servers: dict[str, DataServer]
    """Servers of the parts by name."""
    keeps: bool
    """Whether data is protected from `destroy`."""
    issued: Mapping[str, Sequence[str]]
    """Services whose logins the secret store issues, by data server."""
    issuer: Issuer | None
    """The store that issues them, once it can."""

    def __init__(
        self,
        env: str,
        config: Data,
        namespace: str,
        image: Callable[[str], pulumi.Input[str]],
        records: Mapping[str, DataIntent] | None = None,
        *,
        buckets: Mapping[str, str] | None = None,
        owners: Sequence[str] = (),
        site: AwsSiteArgs | None = None,
        store: StoreSite | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`image` finds an image by its name in the lock; `records` are the services that use the data, by name;
        `buckets` are further buckets, each with the login that owns it; `owners` are parts that have a database and
        a login of their name; `site` is where AWS runs managed services; `store` is the secret store that issues
        logins."""
        super().__init__("data", f"{env}-data", {}, opts)
        self._env, self._config, self._namespace, self._site = env, config, namespace, site
        self._records, self._buckets, self._owners = dict(records or {}), dict(buckets or {}), tuple(owners)
        self._images = {name: image(name) for name in images(config)}
        self.parts, self.keeps = {}, not config.destroy_data
        self._store, self.issuer = store, None
        self.issued = store.issued if store else {}
        systems = needs.login_systems(config, self._records, self._buckets.values(), self._owners, self.issued)
        self.logins = None
        self.postgres = self.nats = self.kafka = self.cache = self.objects = None
        if systems:
            generation = config.credentials_generation
            self.logins = Logins(
                f"{env}-logins",
                {"namespace": namespace, "logins": systems, "generation": generation},
                self.child(),
            )
            self._make(self.logins)
        found = {name: getattr(part, "server", None) for name, part in self.parts.items()}
        self.servers = {name: server for name, server in found.items() if isinstance(server, DataServer)}
        others = {name: part for name, part in self.parts.items() if name in _ON_POSTGRES}
        self.resources = DataLayerResources(
            self.logins,
            self.postgres,
            self.kafka,
            self.nats,
            self.cache,
            self.objects,
            others,
            self.issuer.task if self.issuer else None,
        )
        self.finish({"kind": "", "namespace": namespace, "name": "data", "probe": "the check of every part has passed"})

    def _image(self, name: str) -> pulumi.Input[str] | None:
        """Reference of an image; empty if a managed AWS service replaces it."""
        return self._images.get(name)

    def _args(self, part: str, field: str, logins: Logins, **more: Any) -> Any:
        """Inputs of a part: the section `field` of the configuration, and what all parts have in common."""
        section = getattr(self._config, field)
        return {
            **section.model_dump(exclude={"pod"}),
            **customized(section.pod, f"data.{to_camel(field)}.pod"),
            "namespace": self._namespace,
            "kubernetes_name": part,
            "logins": logins.credentials,
            "tasks_image": self._image("data-tasks"),
            "destroy_data": self._config.destroy_data,
            **more,
        }

    def _make(self, logins: Logins) -> None:
        config, records = self._config, self._records.values()
        if config.object_store:
            owned = {bucket: record.name for record in records for bucket in record.buckets}
            # RDS stores its own backups.
            backups = {BUCKET: SUPERUSER} if config.postgres and not config.postgres.rds else {}
            args = self._args(
                object_store.PART,
                "object_store",
                logins,
                image=self._image("object-store"),
                exporters_image=self._image(EXPORTERS),
                buckets={**owned, **backups, **self._buckets},
                site=self._site,
                prefix=f"{PART_OF}-{self._env}-{self._site['account_id']}-" if self._site else "",
            )
            self.objects = ObjectStore(f"{self._env}-object-store", args, self.child())
            self.parts["object-store"] = self.objects
        if config.nats:
            args = self._args(
                nats.PART,
                "nats",
                logins,
                image=self._image("nats"),
                exporters_image=self._image(EXPORTERS),
                accounts=[needs.nats_account(record) for record in records if record.speaks],
                **self._registers(NATS),
            )
            self.nats = self.parts["nats"] = Nats(f"{self._env}-nats", args, self.child())
        if config.cache:
            args = self._args(
                cache.PART,
                "cache",
                logins,
                image=self._image("cache"),
                exporters_image=self._image(EXPORTERS),
                users=[one.name for one in records if one.cache and one.name not in self._by_store(CACHE)],
                issued=self._by_store(CACHE),
            )
            self.cache = self.parts["cache"] = Cache(f"{self._env}-cache", args, self.child())
        if config.kafka:
            args = self._args(
                kafka_cluster.PART,
                "kafka",
                logins,
                image=self._image("kafka"),
                topics=[{"name": topic} for topic in needs.topics(self._records)],
                users=needs.kafka_users(self._records, config.change_data_capture is not None),
                callers=[change_data_capture.PART],
                site=self._site,
            )
            self.kafka = KafkaCluster(f"{self._env}-kafka", args, self.child())
            self.parts["kafka"] = self.kafka
        if config.postgres:
            self._databases(config, logins)
        self._connect(logins)

    def _by_store(self, system: str) -> Sequence[str]:
        """Services whose logins for a data server the secret store issues."""
        return self.issued.get(system, ())

    def _registers(self, system: str) -> dict[str, Any]:
        """Inputs of a data server that finds its logins in the secret store."""
        if self._store is None or not (issued := self._by_store(system)):
            return {}
        return {"issued": issued, "store_url": self._store.address, "store_authority": self._store.authority}

    def _connect(self, logins: Logins) -> None:
        """Connect the secret store to the servers for which it issues logins."""
        servers: dict[str, pulumi.Input[str]] = {}
        if self.postgres and self._by_store(POSTGRES):
            servers["PGHOST"] = self.postgres.direct
        if self.cache and self._by_store(CACHE):
            servers["CACHE_URL"] = self.cache.url
        if self._store and servers:
            name = f"{self._env}-database-logins"
            self.issuer = issued_logins.connect(name, self._namespace, self._store, servers, logins, self.child())
        elif self._store and (self._by_store(NATS) or any(one.has_store_keys for one in self._records.values())):
            self.issuer = Issuer(self._store.url, self._store.authority, None)

    def _databases(self, config: Data, logins: Logins) -> None:
        assert config.postgres is not None
        records, owner = self._records.values(), needs.owner_of_collections(self._records)
        image = self._image("postgres")
        args = self._args(
            postgres_cluster.PART,
            "postgres",
            logins,
            image=image,
            exporters_image=self._image(EXPORTERS),
            databases=needs.databases(config, self._records, self._owners, self._by_store(POSTGRES)),
            checked_database=REGISTRY,
            capture=config.change_data_capture is not None,
            callers=[
                *(record.name for record in records if record.database),
                schema_registry.PART,
                change_data_capture.PART,
                *self._owners,
            ],
            backup_store=None if config.postgres.rds else self._backup_store(),
            site=self._site,
        )
        del args["tasks_image"]
        self.postgres = PostgresCluster(f"{self._env}-postgres", args, self.child())
        self.parts["postgres"] = self.postgres
        direct = self.postgres.direct
        if config.vector_database:
            args = self._args(
                "vector-database",
                "vector_database",
                logins,
                owner=owner,
                **({"login": SUPERUSER} if owner in self._by_store(POSTGRES) else {}),
                image=image,
                postgres_host=direct,
            )
            del args["tasks_image"]
            self.parts["vector-database"] = VectorDatabase(f"{self._env}-vector-database", args, self.child())
        if config.schema_registry:
            args = self._args(
                schema_registry.PART,
                "schema_registry",
                logins,
                image=self._image("schema-registry"),
                guard_image=self._image("gateway"),
                postgres_host=direct,
                platform_events=True,
                schemas={topic: schema for record in records for topic, schema in record.schemas.items()},
                callers=[record.name for record in records if record.produces or record.consumes],
            )
            self.parts["schema-registry"] = SchemaRegistry(f"{self._env}-schema-registry", args, self.child())
        if config.change_data_capture and config.kafka and self.kafka:
            args = self._args(
                change_data_capture.PART,
                "change_data_capture",
                logins,
                image=self._image("kafka"),
                postgres_host=direct,
                bootstrap=self.kafka.bootstrap,
                authority=self.kafka.authority,
                brokers=config.kafka.replicas,
                outboxes=[record.name for record in records if record.outbox],
            )
            self.parts["change-data-capture"] = ChangeDataCapture(
                f"{self._env}-change-data-capture", args, self.child()
            )

    def _backup_store(self) -> BackupStoreArgs | None:
        """The bucket of backups, where there is an object store."""
        store = self.objects
        if store is None:
            return None
        return {
            "endpoint": store.endpoint,
            "bucket": f"{store.place.get('PREFIX', '')}{BUCKET}",
            "region": store.place.get("REGION", "us-east-1"),
            "by_role": store.by_role,
            "annotations": store.annotations.get(SUPERUSER, {}),
        }


def images(config: Data) -> list[str]:
    """Names of the images that the configured parts run."""
    return sorted({name for field in IMAGES if getattr(config, field) is not None for name in _run(config, field)})


def _run(config: Data, field: str) -> tuple[str, ...]:
    """Names of a part's images that still run in pods; managed AWS services replace the others."""
    elsewhere = {
        "postgres": config.postgres and config.postgres.rds and ("postgres",),
        "object_store": config.object_store and config.object_store.s3 and ("data-tasks",),
        "kafka": config.kafka and config.kafka.msk and ("data-tasks",),
    }
    return elsewhere.get(field) or IMAGES[field]
