"""The data layer of an environment: its enabled parts, and what each part takes from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pulumi

from components.base import PART_OF, PlatformComponent
from components.cluster.aws_site import AwsSite
from components.config.data import Data
from components.data.cache import OWNER as CACHE_OWNER
from components.data.cache import Cache
from components.data.change_data_capture import CONNECT, ChangeDataCapture
from components.data.exporter import IMAGE as EXPORTERS
from components.data.kafka_access import CAPTURE
from components.data.kafka_cluster import OWNER as BROKERS_OWNER
from components.data.kafka_cluster import KafkaCluster
from components.data.nats import OWNER as NATS_OWNER
from components.data.nats import Nats
from components.data.object_store import OWNER as OBJECTS_OWNER
from components.data.object_store import ObjectStore
from components.data.postgres_cluster import BUCKET, REGISTRY, SUPERUSER, PostgresCluster
from components.data.schema_registry import WRITER, SchemaRegistry
from components.data.server import DataServer
from components.data.vector_database import VectorDatabase
from components.pods import customized
from components.security.logins import Logins
from components.services.registry import SERVICES

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

    def __init__(
        self,
        env: str,
        config: Data,
        namespace: str,
        image: Callable[[str], pulumi.Input[str]],
        site: AwsSite | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`image` returns the reference of an image by its name in the lock file; `site` is the AWS network."""
        super().__init__("data", f"{env}-data", {}, opts)
        self._env, self._config, self._namespace, self._site = env, config, namespace, site
        self._images = {name: image(name) for name in images(config)}
        self.parts, self.keeps = {}, not config.destroy_data
        systems = login_systems(config)
        self.logins = None
        self.postgres = self.nats = self.kafka = self.cache = self.objects = None
        if systems:
            generation = config.credentials_generation
            args: Any = {"namespace": namespace, "logins": systems, "generation": generation}
            self.logins = Logins(f"{env}-logins", args, self.child())
            self._make(self.logins)
        found = {name: getattr(part, "server", None) for name, part in self.parts.items()}
        self.servers = {name: server for name, server in found.items() if isinstance(server, DataServer)}
        others = {name: part for name, part in self.parts.items() if name in _ON_POSTGRES}
        self.resources = DataLayerResources(
            self.logins, self.postgres, self.kafka, self.nats, self.cache, self.objects, others
        )
        self.finish({"kind": "", "namespace": namespace, "name": "data", "probe": "the check of every part has passed"})

    def _image(self, name: str) -> pulumi.Input[str]:
        """Reference of an image; empty if a managed AWS service replaces it."""
        return self._images.get(name, "")

    def _common(self, logins: Logins) -> Any:
        return {
            "namespace": self._namespace,
            "logins": logins,
            "tasks_image": self._image("data-tasks"),
            "site": self._site,
            "destroy_data": self._config.destroy_data,
        }

    def _make(self, logins: Logins) -> None:
        config, common = self._config, self._common(logins)
        capture = config.change_data_capture is not None
        if config.object_store:
            # RDS stores its own backups.
            owners = {BUCKET: SUPERUSER} if config.postgres and not config.postgres.rds else {}
            args: Any = {
                **common,
                **customized(config.object_store.pod, "data.objectStore.pod"),
                "image": self._image("object-store"),
                "exporters_image": self._image(EXPORTERS),
                "owners": owners,
                "prefix": f"{PART_OF}-{self._env}-{self._site.account_id}-" if self._site else "",
            }
            self.objects = ObjectStore(f"{self._env}-object-store", config.object_store, args, self.child())
            self.parts["object-store"] = self.objects
        if config.nats:
            args = {
                **common,
                **customized(config.nats.pod, "data.nats.pod"),
                "image": self._image("nats"),
                "exporters_image": self._image(EXPORTERS),
            }
            self.nats = self.parts["nats"] = Nats(f"{self._env}-nats", config.nats, args, self.child())
        if config.cache:
            args = {
                **common,
                **customized(config.cache.pod, "data.cache.pod"),
                "image": self._image("cache"),
                "exporters_image": self._image(EXPORTERS),
            }
            self.cache = self.parts["cache"] = Cache(f"{self._env}-cache", config.cache, args, self.child())
        if config.kafka:
            pods = customized(config.kafka.pod, "data.kafka.pod")
            args = {**common, **pods, "image": self._image("kafka"), "capture": capture}
            self.kafka = KafkaCluster(f"{self._env}-kafka", config.kafka, args, self.child())
            self.parts["kafka"] = self.kafka
        if config.postgres:
            self._databases(config, logins, common)

    def _databases(self, config: Data, logins: Logins, common: Any) -> None:
        assert config.postgres is not None
        capture = config.change_data_capture is not None
        args: Any = {
            **customized(config.postgres.pod, "data.postgres.pod"),
            "namespace": self._namespace,
            "image": self._image("postgres"),
            "exporters_image": self._image(EXPORTERS),
            "logins": logins,
            "objects": self.objects,
            "site": self._site,
            "callers": ("schema-registry", "change-data-capture"),
            "capture": capture,
            "destroy_data": config.destroy_data,
        }
        self.postgres = PostgresCluster(f"{self._env}-postgres", config.postgres, args, self.child())
        self.parts["postgres"] = self.postgres
        reached = {**common, "postgres_host": self.postgres.direct}
        if config.vector_database:
            pods = customized(config.vector_database.pod, "data.vectorDatabase.pod")
            args = {**reached, **pods, "image": self._image("postgres")}
            self.parts["vector-database"] = VectorDatabase(
                f"{self._env}-vector-database", config.vector_database, args, self.child()
            )
        if config.schema_registry:
            args = {
                **reached,
                **customized(config.schema_registry.pod, "data.schemaRegistry.pod"),
                "image": self._image("schema-registry"),
                "guard_image": self._image("gateway"),
            }
            self.parts["schema-registry"] = SchemaRegistry(
                f"{self._env}-schema-registry", config.schema_registry, args, self.child()
            )
        if config.change_data_capture and config.kafka and self.kafka:
            args = {
                **reached,
                **customized(config.change_data_capture.pod, "data.changeDataCapture.pod"),
                "image": self._image("kafka"),
                "bootstrap": self.kafka.bootstrap,
                "authority": self.kafka.authority,
                "brokers": config.kafka.replicas,
            }
            self.parts["change-data-capture"] = ChangeDataCapture(
                f"{self._env}-change-data-capture", config.change_data_capture, args, self.child()
            )


def login_systems(config: Data) -> dict[str, list[str]]:
    """Enabled systems for which each login has a password, by login."""
    wanted: dict[str, list[str]] = {
        SUPERUSER: ["postgres"] if config.postgres and config.postgres.rds else ["postgres", "objects"],
        BROKERS_OWNER: ["kafka"] if config.kafka and config.kafka.msk else [],
        REGISTRY: ["postgres"],
        CAPTURE: ["postgres", "kafka"] if config.change_data_capture else [],
        CONNECT: [CONNECT] if config.change_data_capture else [],
        WRITER: [WRITER] if config.schema_registry else [],
        NATS_OWNER: ["nats"],
        CACHE_OWNER: ["cache"],
        OBJECTS_OWNER: ["objects"],
    }
    for intent in SERVICES.values():
        wanted[intent.name] = [
            "nats",
            *(["postgres"] if intent.database else []),
            *(["kafka"] if intent.produces or intent.consumes else []),
            *(["cache"] if intent.cache else []),
            *(["objects"] if intent.buckets else []),
        ]
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
