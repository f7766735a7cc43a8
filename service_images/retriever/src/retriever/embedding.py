"""Client of the Embeddings service: vectors of texts, and reranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import grpc
from cogniforge.embeddings.v1 import embeddings_pb2 as messages
from cogniforge.embeddings.v1 import embeddings_pb2_grpc as service
from kit import rpc
from kit.errors import ApiError, ErrorType

_TIMEOUT_S = 60.0


class Embedder(Protocol):
    """A source of vectors."""

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        """One vector of length one per text. Raises ApiError(503)."""
        ...

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Relevance of each text to the query, from -1 to 1. Raises ApiError(503)."""
        ...


class Embeddings:
    """The Embeddings service over gRPC."""

    def __init__(self, target: str) -> None:
        self._client = rpc.Client("embeddings", target, service.EmbeddingsServiceStub)

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        """Vectors in the order of the texts."""
        answer = await self._ask(self._client.stub.Embed, messages.EmbedRequest(texts=list(texts)))
        return [memoryview(vector).cast("f") for vector in answer.vectors]

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Scores in the order of the texts."""
        answer = await self._ask(self._client.stub.Rerank, messages.RerankRequest(query=query, texts=list(texts)))
        return list(answer.scores)

    @staticmethod
    async def _ask(method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=_TIMEOUT_S, metadata=rpc.carried())
        except grpc.aio.AioRpcError as error:
            message = f"Embeddings is unavailable ({error.code().name})."
            raise ApiError(503, message, ErrorType.SERVER, code="unavailable") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
