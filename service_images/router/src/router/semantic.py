"""Semantic cache: answers to questions with the same meaning, found by the vector of the question.

Only the question, which is the last message, may have another wording. The caller's key, the user, the model, its
settings, the system prompt and all earlier messages must be equal. Questions beyond the embedding model's limit are not
cached, and questions with different numbers never match, since vectors hardly distinguish numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from operator import mul

import grpc
import msgspec
from cogniforge.embeddings.v1 import embeddings_pb2 as messages
from cogniforge.embeddings.v1 import embeddings_pb2_grpc as service
from kit import logs, rpc

log = logs.get("router.semantic")
PATIENCE_S = 0.5
"""Seconds for a vector; after that, the model is called."""
CONTEXTS = 2000
KEPT = 64
"""Maximum answers to compare per context: 15 microseconds each."""
Vector = Sequence[float]
_NUMBERS = re.compile(r"\d+(?:[.,:/-]\d+)*")
_encode = msgspec.json.Encoder(order="deterministic").encode


class SemanticCache:
    """Semantic cache with a client of the Embeddings service."""

    def __init__(self, target: str) -> None:
        self._client = rpc.Client("embeddings", target, service.EmbeddingsServiceStub)
        self._contexts: OrderedDict[bytes, list[tuple[float, Vector, bytes]]] = OrderedDict()
        self.hits = self.misses = 0

    async def vector(self, text: str, traceparent: bytes) -> Vector | None:
        """Vector of a text; None if it is too long for the model, or Embeddings is unavailable."""
        request = messages.EmbedRequest(texts=[text], whole=True)
        try:
            answer = await self._client.stub.Embed(
                request, timeout=PATIENCE_S, metadata=rpc.carried(traceparent.decode())
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                return None
            log.warning("Embeddings is unavailable", reason=error.code().name)
            return None
        return memoryview(answer.vectors[0]).cast("f")

    def get(self, context: bytes, vector: Vector, threshold: float, now: float) -> bytes | None:
        """Answer to the nearest question, if it is near enough and fresh."""
        entries = self._contexts.get(context, [])
        best, found = threshold, None
        for until, known, body in entries:
            if now < until and (near := sum(map(mul, known, vector))) >= best:
                best, found = near, body
        self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found

    def put(self, context: bytes, vector: Vector, body: bytes, until: float) -> None:
        """Store an answer; the oldest one is dropped first."""
        entries = self._contexts.setdefault(context, [])
        self._contexts.move_to_end(context)
        entries.append((until, vector, body))
        del entries[:-KEPT]
        while len(self._contexts) > CONTEXTS:
            self._contexts.popitem(last=False)

    def clear(self) -> None:
        """Drop all answers."""
        self._contexts.clear()


def question(owner: bytes, body: bytes) -> tuple[bytes, str] | None:
    """(context that must be equal, question); None if the last message is not a user's text."""
    content = msgspec.json.decode(body)
    said = content.get("messages")
    if not isinstance(said, list) or not said or not isinstance(said[-1], dict):
        return None
    last = said[-1]
    text = last.get("content")
    if last.get("role") != "user" or not isinstance(text, str) or not text.strip():
        return None
    equal = {**content, "messages": [*said[:-1], {**last, "content": ""}]}
    parts = [equal, _NUMBERS.findall(text)]
    return hashlib.blake2b(owner + b"\0" + _encode(parts), digest_size=16).digest(), text
