"""Embeddings' gRPC method."""

from __future__ import annotations

from typing import Any

from cogniforge.embeddings.v1 import embeddings_pb2 as messages
from cogniforge.embeddings.v1 import embeddings_pb2_grpc as service
from kit import rpc
from kit.errors import ApiError

from embeddings.api import MAX_TEXTS
from embeddings.reranking import Reranker
from embeddings.vectors import Long, Vectors


class Calls(service.EmbeddingsServiceServicer):
    """gRPC methods for other services."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors, self._reranker = vectors, Reranker(vectors)

    def add(self, server: Any) -> None:
        """Register the methods with a server."""
        service.add_EmbeddingsServiceServicer_to_server(self, server)  # pyright: ignore[reportUnknownMemberType]

    @rpc.answers
    async def Embed(self, request: messages.EmbedRequest) -> messages.EmbedResponse:
        """Vectors of texts. Texts beyond the model's limit are embedded in parts, or refused if `whole` is set."""
        if not 1 <= len(request.texts) <= MAX_TEXTS:
            raise ApiError(400, f"1 to {MAX_TEXTS} texts; there are {len(request.texts)}")
        long = Long.REFUSE if request.whole else Long.SPLIT
        vectors, tokens = await self._vectors.of(request.texts, long=long)
        return messages.EmbedResponse(vectors=[v.astype("<f4").tobytes() for v in vectors], tokens=tokens)

    @rpc.answers
    async def Rerank(self, request: messages.RerankRequest) -> messages.RerankResponse:
        """Scores of texts for a query, from their sentences and the whole texts."""
        if not 1 <= len(request.texts) <= MAX_TEXTS or not request.query:
            raise ApiError(400, f"a query, and 1 to {MAX_TEXTS} texts; there are {len(request.texts)}")
        return messages.RerankResponse(scores=await self._reranker.scores(request.query, request.texts))
