"""Settings of the Retriever service."""

from __future__ import annotations

from enum import StrEnum

from kit.settings import ServiceSettings
from pydantic import Field, SecretStr


class EngineName(StrEnum):
    """Vector databases."""

    PGVECTOR = "pgvector"
    WEAVIATE = "weaviate"
    MILVUS = "milvus"
    PINECONE = "pinecone"


class RetrieverSettings(ServiceSettings):
    """Retriever's settings."""

    name: str = "retriever"
    embeddings: str = "embeddings-rpc:9090"
    """host:port of the Embeddings service's gRPC."""
    router: str = ""
    """host:port of the Router's gRPC, for answers; empty disables them."""
    user: str = ""
    """host:port of User's gRPC, for teams; empty means that there are no teams."""
    collection: str = "documents"
    dimension: int = 384
    engine: EngineName = EngineName.PGVECTOR
    engine_url: str = ""
    """Password or key of an external engine."""
    engine_key: SecretStr = SecretStr("")
    workers: int = Field(default=0, ge=0, le=64)
    """Worker processes that parse documents; 0: as many as fit into the container's memory, at most 4."""
    quota_files: int = Field(default=10_000, ge=1)
    """Maximum files of a tenant. The following quotas are per tenant too."""
    quota_bytes: int = Field(default=2 * 2**30, ge=1)
    quota_stores: int = Field(default=1000, ge=1)
    quota_passages: int = Field(default=1_000_000, ge=1)
    room_bytes: int = Field(default=0, ge=0)
    """Maximum bytes of all tenants' files in the object store; 0 means no limit."""
