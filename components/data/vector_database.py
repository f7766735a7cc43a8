"""Vector database: collections with dimension, distance function and index, in pgvector or an external engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components.base import PlatformComponent
from components.config.base import DnsLabel
from components.config.data import Metric, VectorEngine
from components.config.data import VectorDatabase as VectorDatabaseConfig
from components.config.problems import violation
from components.data import postgres_cluster
from components.data.credentials import Credentials
from components.data.task import DataTask, TaskInputs
from components.inputs import AnyText, Server, ServerArgs, checked


class CollectionArgs(TypedDict):
    """A set of vectors."""

    name: str
    """Name of the collection."""
    dimension: int
    """Numbers in a vector."""
    metric: NotRequired[Metric]
    """How near two vectors are. Default "cosine"."""
    links: NotRequired[int]
    """HNSW: links of each node (m). Default 16."""
    build_effort: NotRequired[int]
    """HNSW: candidates while building (ef_construction). Default 128."""


class VectorServerArgs(TypedDict):
    """A vector database that CogniForge does not run."""

    url: str
    """Where it is."""
    secret_name: str
    """Secret in the namespace; its entry "key" is the API key."""


class VectorDatabaseArgs(ServerArgs):
    """Inputs of a vector database. With pgvector, `logins` needs the login that owns the database."""

    engine: NotRequired[VectorEngine]
    """Where vectors are kept. Default "pgvector"."""
    server: NotRequired[VectorServerArgs]
    """With any engine but pgvector."""
    collections: NotRequired[Sequence[CollectionArgs]]
    """Sets of vectors."""
    owner: str
    """Database of the collections, and the login of the same name that owns them. It needs the extension "vector"."""
    login: NotRequired[str]
    """Login that makes the collections as the owner. Default: the owner. Where a secret store issues the owner's
    logins: "postgres"."""
    image: NotRequired[pulumi.Input[str]]
    """PostgreSQL's image, whose tasks make the collections, by digest; with pgvector."""
    postgres_host: NotRequired[pulumi.Input[str]]
    """PostgreSQL's own address, such as `PostgresCluster.direct`; with pgvector."""
    postgres_name: NotRequired[str]
    """Name of the PostgreSQL server's objects in Kubernetes. Default "postgres"."""


class VectorDatabaseInputs(Server, VectorDatabaseConfig):
    """What `VectorDatabaseArgs` may hold."""

    owner: DnsLabel = Field(description="Database of the collections, and the login that owns them")
    login: DnsLabel | None = Field(default=None, description="Login that makes the collections; default: the owner")
    image: AnyText = Field(default="", description="PostgreSQL's image, by digest; with pgvector")
    postgres_host: AnyText = Field(default="", description="PostgreSQL's own address; with pgvector")
    postgres_name: DnsLabel = Field(
        default=postgres_cluster.PART, description="Name of the PostgreSQL server's objects in Kubernetes"
    )

    @model_validator(mode="after")
    def _in_postgres(self) -> Self:
        if self.engine is VectorEngine.PGVECTOR and (not self.image or not self.postgres_host):
            raise violation("with pgvector, image and postgres_host are required", "add both")
        return self


class VectorDatabaseResources(NamedTuple):
    """Resources of a vector database."""

    provision: DataTask | None
    """With pgvector."""


class VectorDatabase(PlatformComponent):
    """The configured collections, and a check that finds a near vector in each."""

    collections: dict[str, int]
    """Dimension of each collection, by name."""

    def __init__(self, name: str, args: VectorDatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(VectorDatabaseInputs, self, name, args)
        super().__init__("data", name, {"engine": inputs.engine.value}, opts)
        self.collections = {collection.name: collection.dimension for collection in inputs.collections}
        self.resources = VectorDatabaseResources(None)
        if inputs.engine is not VectorEngine.PGVECTOR:
            # External engine: the Retriever creates its collection there, and is ready after that.
            self.finish(
                {
                    "kind": "Deployment",
                    "namespace": inputs.namespace,
                    "name": inputs.owner,
                    "probe": "the owner of the collections is ready",
                },
                collections=self.collections,
            )
            return
        login = inputs.login or inputs.owner
        logins = Credentials(self, inputs, {login: ["postgres"]}, given=[login])
        wanted = [collection.model_dump(mode="json") for collection in inputs.collections]
        task = DataTask(
            f"{name}-collections",
            TaskInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.image,
                arguments=("collections",),
                part=inputs.postgres_name,
                environment={
                    "PGHOST": inputs.postgres_host,
                    "PROVISION": json.dumps(wanted),
                    "PGUSER": login,
                    **({"PGOWNER": inputs.owner} if login != inputs.owner else {}),
                },
                mounts=logins.mounts(login),
                versions=logins.versions(login),
            ),
            self.child(),
        )
        self.resources = VectorDatabaseResources(task)
        self.finish(
            {
                "kind": "Job",
                "namespace": inputs.namespace,
                "name": task.done,
                "probe": "a vector is written to each collection and found by a near one",
            },
            collections=self.collections,
        )
