"""Creates the engine that the settings name."""

from __future__ import annotations

from kit.database import Database

from retriever.engines import Engine
from retriever.engines.milvus import Milvus
from retriever.engines.pgvector import PgVector
from retriever.engines.pinecone import Pinecone
from retriever.engines.weaviate import Weaviate
from retriever.settings import EngineName, RetrieverSettings


def engine(settings: RetrieverSettings, database: Database) -> Engine:
    """The configured engine, not connected yet."""
    url, key = settings.engine_url, settings.engine_key.get_secret_value()
    match settings.engine:
        case EngineName.WEAVIATE:
            return Weaviate(url, key, settings.collection)
        case EngineName.MILVUS:
            return Milvus(url, key, settings.collection)
        case EngineName.PINECONE:
            return Pinecone(url, key)
        case _:
            return PgVector(database, settings.collection)
