"""What Retriever is configured with."""

from __future__ import annotations

from enum import StrEnum

from kit.settings import ServiceSettings
from pydantic import Field, SecretStr


class EngineName(StrEnum):
    """Where passages are."""

    PGVECTOR = "pgvector"
    WEAVIATE = "weaviate"
    MILVUS = "milvus"
    PINECONE = "pinecone"


class RetrieverSettings(ServiceSettings):
    """Retriever's settings."""

    name: str = "retriever"
    embeddings: str = "embeddings-rpc:9090"
    """Where the Embeddings service's gRPC is."""
    router: str = ""
    """host:port of the router's gRPC, where answers are asked for; empty: nowhere."""
    user: str = ""
    """host:port of User's gRPC, where teams are asked for; empty: there are none."""
    collection: str = "documents"
    dimension: int = 384
    engine: EngineName = EngineName.PGVECTOR
    engine_url: str = ""
    """Of an engine that is not the service's own database."""
    engine_key: SecretStr = SecretStr("")
    workers: int = Field(default=0, ge=0, le=64)
    """Processes that read documents; 0: as many as the memory limit of the container allows, at most 4."""
    quota_files: int = Field(default=10_000, ge=1)
    """Files of a tenant; the other quotas are of a tenant too."""
    quota_bytes: int = Field(default=2 * 2**30, ge=1)
    quota_stores: int = Field(default=1000, ge=1)
    quota_passages: int = Field(default=1_000_000, ge=1)
    room_bytes: int = Field(default=0, ge=0)
    """Of the object store, for the files of all tenants together; 0: it has no end."""
