"""Vector database: collections with dimension, distance function and index, in pgvector or an external engine."""

from __future__ import annotations

import json
from typing import NamedTuple

import pulumi

from components.base import PlatformComponent
from components.config.data import VectorDatabase as VectorDatabaseConfig
from components.config.data import VectorEngine
from components.data import postgres_cluster
from components.data.task import DataTask, TaskInputs
from components.pods import CustomizeArgs
from components.security.logins import Logins
from components.services.registry import owner_of_collections

OWNER = owner_of_collections()
"""Service that owns the collections, and its database, which holds them."""


class VectorDatabaseArgs(CustomizeArgs):
    """Inputs of a vector database."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    """PostgreSQL's image, which contains the setup task for collections."""
    logins: Logins
    postgres_host: pulumi.Input[str]


class VectorDatabaseResources(NamedTuple):
    """Resources of a vector database."""

    provision: DataTask | None
    """With pgvector."""


class VectorDatabase(PlatformComponent):
    """The configured collections, and a check that finds a near vector in each."""

    collections: dict[str, int]
    """Dimension of each collection, by name."""

    def __init__(
        self,
        name: str,
        config: VectorDatabaseConfig,
        args: VectorDatabaseArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("data", name, {"engine": config.engine.value}, opts)
        self.collections = {collection.name: collection.dimension for collection in config.collections}
        self.resources = VectorDatabaseResources(None)
        if config.engine is not VectorEngine.PGVECTOR:
            # External engine: the Retriever creates its collection there, and is ready after that.
            self.finish(
                {
                    "kind": "Deployment",
                    "namespace": args["namespace"],
                    "name": OWNER,
                    "probe": "the owner of the collections is ready",
                },
                collections=self.collections,
            )
            return
        wanted = [collection.model_dump(mode="json") for collection in config.collections]
        task = DataTask(
            f"{name}-collections",
            TaskInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                image=args["image"],
                arguments=("collections",),
                part=postgres_cluster.PART,
                environment={"PGHOST": args["postgres_host"], "PROVISION": json.dumps(wanted), "PGUSER": OWNER},
                mounts={f"/etc/credentials/{OWNER}": args["logins"].secret(OWNER)},
                versions=(args["logins"].versions[OWNER],),
            ),
            self.child(),
        )
        self.resources = VectorDatabaseResources(task)
        self.finish(
            {
                "kind": "Job",
                "namespace": args["namespace"],
                "name": task.done,
                "probe": "a vector is written to each collection and found by a near one",
            },
            collections=self.collections,
        )
