"""REST operations of the Embeddings service: those of OpenAI and of Hugging Face's Text Embeddings Inference (TEI)."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal, cast

import numpy as np
from kit import rest_app
from kit.directory import Scope
from kit.errors import ApiError, ErrorType
from kit.rest import Call, Model, Operation
from pydantic import Field

from embeddings.detokenizing import Detokenizer
from embeddings.engine import DIMENSION, MAX_TOKENS, MODEL, Vector
from embeddings.reranking import Reranker
from embeddings.vectors import Long, Vectors

SCOPE = Scope.EMBEDDINGS
MAX_TEXTS = 2048
MAX_TOKENS_GIVEN = 8192
"""Limit for a text that is given as tokens. Source: OpenAI's API reference, "Create embeddings"."""
Text = Annotated[str, Field(min_length=1, max_length=100_000)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_TEXTS)]


Tokens = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=MAX_TOKENS_GIVEN)]
TokenLists = Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=MAX_TEXTS)]


class Asked(Model):
    """Request in OpenAI's format."""

    input: Text | Texts | Tokens | TokenLists
    """Texts, or their tokens in OpenAI's encoding cl100k_base."""
    model: Annotated[str, Field(max_length=256)] = MODEL
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, le=DIMENSION)] = DIMENSION
    """Length of the vectors: longer ones are truncated to it and normalized again."""
    user: Annotated[str, Field(max_length=1000)] = ""


class Embed(Model):
    """Request in TEI's format."""

    inputs: Text | Texts
    normalize: bool = True
    truncate: bool = False
    dimensions: Annotated[int, Field(ge=1, le=DIMENSION)] = DIMENSION


class Rerank(Model):
    """Texts to rank by relevance."""

    query: Text
    texts: Texts
    truncate: bool = False
    raw_scores: bool = False
    return_text: bool = False


class Pair(Model):
    """A sentence, and the sentences to compare it with."""

    source_sentence: Text
    sentences: Texts
    truncate: bool = False


class Similarity(Model):
    """Request for similarities in TEI's format."""

    inputs: Pair


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return rest_app.document("Embeddings", Api.operations(cast("Api", Api)))


class Api:
    """The operations."""

    def __init__(self, vectors: Vectors, detokenizer: Detokenizer) -> None:
        self._vectors, self._reranker, self._detokenizer = vectors, Reranker(vectors), detokenizer

    def operations(self) -> list[Operation]:
        """All operations. On the class itself they serve as descriptions only and cannot be called."""
        more: dict[str, Any] = {"scope": SCOPE, "failures": (413, 429)}
        return [
            Operation("POST", "/v1/embeddings", "Embed texts (OpenAI's API).", self.openai, body=Asked,
                      scope=SCOPE, failures=(404, 429)),
            Operation("GET", "/v1/models", "List the model.", self.models, scope=SCOPE),
            Operation("POST", "/embed", "Embed texts (TEI's API).", self.embed, list[list[float]], body=Embed,
                      **more),
            Operation("POST", "/rerank", "Rank texts by their relevance to a query.", self.rerank, list[dict[str, Any]],
                      body=Rerank, **more),
            Operation("POST", "/similarity", "Compare sentences with one sentence.", self.similarity, list[float],
                      body=Similarity, **more),
            Operation("GET", "/info", "Describe the served model.", self.info, scope=SCOPE),
        ]  # fmt: skip

    async def openai(self, call: Call[Any, Asked]) -> dict[str, Any]:
        """Texts longer than the model's context are embedded in parts; nothing is truncated."""
        asked = call.body
        if asked.model not in (MODEL, f"sentence-transformers/{MODEL}"):
            message = f"The model `{asked.model}` does not exist."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_found")
        try:
            vectors, tokens = await self._vectors.of(self._texts(asked.input))
        except ApiError as error:
            # OpenAI's API answers with this error, and its clients handle it.
            if error.code == "text_too_long":
                raise ApiError(400, error.message, param="input", code="context_length_exceeded") from None
            raise
        data = [
            {
                "object": "embedding",
                "index": number,
                "embedding": _written(_short(v, asked.dimensions), asked.encoding_format),
            }
            for number, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": MODEL, "usage": usage}

    def _texts(self, given: Any) -> list[str]:
        if isinstance(given, str):
            return [given]
        if isinstance(given[0], str):
            return list(given)
        one = isinstance(given[0], int)
        lists = [("input", given)] if one else [(f"input.{number}", tokens) for number, tokens in enumerate(given)]
        return [self._detokenizer.text(tokens, where) for where, tokens in lists]

    async def models(self, _: Call[Any, None]) -> dict[str, Any]:
        """The only model."""
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "cogniforge"}]}

    async def embed(self, call: Call[Any, Embed]) -> list[list[float]]:
        """One vector per text."""
        asked = call.body
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        vectors, _ = await self._vectors.of(texts, long=_long(asked.truncate))
        return [_short(vector, asked.dimensions).tolist() for vector in vectors]

    async def rerank(self, call: Call[Any, Rerank]) -> list[dict[str, Any]]:
        """Best first. Scores are between 0 and 1, unless raw scores are requested (`reranking.py`)."""
        asked = call.body
        scores = await self._reranker.scores(asked.query, asked.texts, long=_long(asked.truncate))
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [
            {
                "index": place,
                "score": scores[place] if asked.raw_scores else (scores[place] + 1) / 2,
                **({"text": asked.texts[place]} if asked.return_text else {}),
            }
            for place in order
        ]

    async def similarity(self, call: Call[Any, Similarity]) -> list[float]:
        """Cosines of the sentences."""
        pair = call.body.inputs
        vectors, _ = await self._vectors.of((pair.source_sentence, *pair.sentences), long=_long(pair.truncate))
        return _cosines(vectors)

    async def info(self, _: Call[Any, None]) -> dict[str, Any]:
        """In TEI's format."""
        return {
            "model_id": f"sentence-transformers/{MODEL}",
            "model_dtype": "float32",
            "model_type": {"embedding": {"pooling": "mean"}},
            "max_input_length": MAX_TOKENS,
            "max_client_batch_size": MAX_TEXTS,
        }


def _long(truncate: bool) -> Long:
    """TEI's behaviour: long texts are truncated if the request asks for it, else refused."""
    return Long.CUT if truncate else Long.REFUSE


def _short(vector: Vector, dimensions: int) -> Vector:
    if dimensions == DIMENSION:
        return vector
    first = vector[:dimensions]
    length = float(np.linalg.norm(first))
    return first / length if length else first


def _written(vector: Vector, form: str) -> Any:
    return vector.tolist() if form == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _cosines(vectors: list[Vector]) -> list[float]:
    return [float(score) for score in np.clip(np.stack(vectors[1:]) @ vectors[0], -1, 1)]
