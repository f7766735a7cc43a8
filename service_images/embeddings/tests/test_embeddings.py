"""Embeddings' REST operations, with the real model."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpe_openai
import grpc
import grpc.aio
import httpx
import numpy as np
import pytest
from cogniforge.embeddings.v1 import embeddings_pb2 as messages
from cogniforge.embeddings.v1 import embeddings_pb2_grpc as service
from embeddings import export
from embeddings.__main__ import EmbeddingsSettings, create
from embeddings.api import document
from embeddings.batching import MAX_BATCH_TOKENS, Batcher
from embeddings.calls import Calls
from embeddings.engine import DIMENSION, MAX_TOKENS, Engine, pieces, shortened
from embeddings.vectors import Vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import rpc
from kit.cache import Cache
from openai import OpenAI
from starlette.testclient import TestClient

from service_images.issuer import Cluster

from .conftest import ready

TEXTS = ["A man is eating food.", "Someone eats a meal.", "The sky is blue.", "naïve façade — 東京", "x", "the " * 300]


def reference(tokens: Sequence[int]) -> np.ndarray[Any, Any]:
    """BERT in 64 bits with the same weights, implemented independently of the graph."""
    w = {k: v.astype(np.float64) for k, v in export.weights(export.source() / "model.safetensors").items()}

    def normal(x: Any, key: str) -> Any:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(var + 1e-12) * w[f"{key}.weight"] + w[f"{key}.bias"]

    def dense(x: Any, key: str) -> Any:
        return x @ w[f"{key}.weight"].T + w[f"{key}.bias"]

    e = "embeddings."
    x = w[f"{e}word_embeddings.weight"][list(tokens)] + w[f"{e}position_embeddings.weight"][: len(tokens)]
    x = normal(x + w[f"{e}token_type_embeddings.weight"][0], f"{e}LayerNorm")
    for layer in range(6):
        a = f"encoder.layer.{layer}."
        q, k, v = (
            dense(x, f"{a}attention.self.{n}").reshape(len(tokens), 12, 32).transpose(1, 0, 2)
            for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(32)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(tokens), 384)
        x = normal(dense(mixed, f"{a}attention.output.dense") + x, f"{a}attention.output.LayerNorm")
        h = dense(x, f"{a}intermediate.dense")
        h = h * 0.5 * (1 + np.vectorize(math.erf)(h / math.sqrt(2)))
        x = normal(dense(h, f"{a}output.dense") + x, f"{a}output.LayerNorm")
    pooled = x.mean(0)
    return pooled / np.linalg.norm(pooled)


def test_vectors_are_the_references(engine: Engine) -> None:
    tokens = [shortened(ids) for ids in engine.tokens(TEXTS)]
    for ids, vector in zip(tokens, engine.run(tokens), strict=True):
        assert float(vector @ reference(ids)) >= 0.9999


def test_padding_changes_nothing(engine: Engine) -> None:
    tokens = [shortened(ids) for ids in engine.tokens(TEXTS)]
    together = engine.run(tokens)
    alone = np.concatenate([engine.run([ids]) for ids in tokens])
    assert np.abs(together - alone).max() < 1e-4


def openai(embeddings: httpx.Client) -> OpenAI:
    """OpenAI's client with the same token."""
    key = embeddings.headers["authorization"].removeprefix("Bearer ")
    return OpenAI(api_key=key, base_url="http://testserver/v1", http_client=embeddings)


def test_openais_client_gets_vectors(embeddings: httpx.Client) -> None:
    client = openai(embeddings)
    answer = client.embeddings.create(model="all-minilm-l6-v2", input=TEXTS[:3])  # the client requests base64
    first, second, third = (np.array(entry.embedding) for entry in answer.data)
    assert first @ second > 0.6 > 0.3 > first @ third
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_fewer_dimensions_are_of_length_one_again(embeddings: httpx.Client) -> None:
    answer = embeddings.post("/v1/embeddings", json={"input": "x", "dimensions": 64}).json()
    vector = np.array(answer["data"][0]["embedding"])
    assert vector.shape == (64,) and abs(np.linalg.norm(vector) - 1) < 1e-5


def test_base64_is_the_same_numbers(embeddings: httpx.Client) -> None:
    plain, coded = (
        embeddings.post("/v1/embeddings", json={"input": "x", "encoding_format": form}).json()["data"][0]["embedding"]
        for form in ("float", "base64")
    )
    assert np.allclose(np.frombuffer(base64.b64decode(coded), "<f4"), plain)


def test_teis_paths_answer_as_tei_does(embeddings: httpx.Client) -> None:
    assert len(embeddings.post("/embed", json={"inputs": TEXTS[:2]}).json()[1]) == DIMENSION
    ranked = embeddings.post("/rerank", json={"query": TEXTS[0], "texts": [TEXTS[2], TEXTS[1]], "return_text": True})
    assert [entry["index"] for entry in ranked.json()] == [1, 0] and ranked.json()[0]["text"] == TEXTS[1]
    pair = {"source_sentence": TEXTS[0], "sentences": [TEXTS[0], TEXTS[2]]}
    same, other = embeddings.post("/similarity", json={"inputs": pair}).json()
    assert same > 0.999 > other
    assert embeddings.get("/info").json()["max_input_length"] == MAX_TOKENS


def test_a_text_that_is_too_long_is_refused_unless_it_may_be_cut(embeddings: httpx.Client) -> None:
    long = "word " * 400
    assert embeddings.post("/embed", json={"inputs": long}).status_code == 413
    assert embeddings.post("/embed", json={"inputs": long, "truncate": True}).status_code == 200


# --- tokens and long texts ------------------------------------------------------------------------


def first_vector(embeddings: httpx.Client, given: Any) -> np.ndarray[Any, Any]:
    answer = embeddings.post("/v1/embeddings", json={"input": given})
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["data"][0]["embedding"])


@pytest.mark.parametrize("text", ["A man is eating food.", "naïve façade — 東京 😀", " \n\t", "x" * 3000])
def test_tokens_of_openais_encoding_are_the_text_that_they_stand_for(embeddings: httpx.Client, text: str) -> None:
    tokens = bpe_openai.get_encoding("cl100k_base").encode(text)
    assert np.allclose(first_vector(embeddings, tokens), first_vector(embeddings, text), atol=1e-5)
    assert np.allclose(first_vector(embeddings, [tokens]), first_vector(embeddings, text), atol=1e-5)


def test_langchains_default_gets_the_vectors_of_its_texts(embeddings: httpx.Client) -> None:
    """The client sends lists of tokens, and requests base64 through openai's client."""
    client = openai(embeddings)
    encoding = bpe_openai.get_encoding("cl100k_base")
    answer: Any = client.embeddings.create(
        model="all-minilm-l6-v2", input=[encoding.encode(text) for text in TEXTS[:3]]
    )
    for entry, text in zip(answer.data, TEXTS[:3], strict=True):
        assert np.allclose(entry.embedding, first_vector(embeddings, text), atol=1e-5)


@pytest.mark.parametrize("given", [[100_256], [[1, 2], [3, 100_300]], [-1]])
def test_an_invalid_token_is_refused_with_its_position(embeddings: httpx.Client, given: Any) -> None:
    answer = embeddings.post("/v1/embeddings", json={"input": given})
    assert answer.status_code == 400
    assert "input" in answer.json()["error"]["message"]


def test_a_long_text_is_read_to_its_end(embeddings: httpx.Client) -> None:
    begin = "The cat sleeps on the warm roof. " * 60
    cats, rates = (first_vector(embeddings, begin + end * 60) for end in ("It purrs. ", "Interest rates rise. "))
    assert float(cats @ rates) < 0.95, "they differ after the model's 256 tokens only"
    assert abs(np.linalg.norm(rates) - 1) < 1e-5
    assert float(rates @ first_vector(embeddings, "interest rates")) > float(
        cats @ first_vector(embeddings, "interest rates")
    )


def test_a_text_beyond_the_limit_is_refused_with_the_limit(embeddings: httpx.Client) -> None:
    answer = embeddings.post("/v1/embeddings", json={"input": "word " * 9000})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "input")
    assert "8192" in error["message"]


@given(st.lists(st.integers(10, 99), max_size=2000))
def test_parts_of_a_text_hold_all_of_its_tokens(tokens: list[int]) -> None:
    parts = pieces([1, *tokens, 2])
    assert [token for part in parts for token in part[1:-1]] == tokens
    assert all(len(part) <= MAX_TOKENS and (part[0], part[-1]) == (1, 2) for part in parts)


@pytest.mark.parametrize("form", ["list", "hex"])
def test_an_encoding_that_is_not_known_is_refused(embeddings: httpx.Client, form: str) -> None:
    assert embeddings.post("/v1/embeddings", json={"input": "x", "encoding_format": form}).status_code == 400


# --- batching -------------------------------------------------------------------------------------


class Counting:
    """A wrapper of the engine that counts calls."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []

    def __call__(self, batch: Sequence[Sequence[int]]) -> Any:
        self.runs.append([len(tokens) for tokens in batch])
        return np.array([[sum(tokens), len(tokens)] for tokens in batch], float)


async def through(batcher: Batcher, texts: list[tuple[int, ...]]) -> list[Any]:
    running = asyncio.create_task(batcher.run())
    try:
        return await asyncio.gather(*(batcher.embed([text]) for text in texts))
    finally:
        running.cancel()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=256).map(tuple), min_size=1, max_size=60))
def test_everyone_gets_their_own_and_no_run_is_too_large(texts: list[tuple[int, ...]]) -> None:
    counting = Counting()
    found = asyncio.run(through(Batcher(counting), texts))
    assert [list(vector) for (vector,) in found] == [[sum(text), len(text)] for text in texts]
    assert all(max(run) * len(run) <= MAX_BATCH_TOKENS for run in counting.runs)
    assert sum(map(len, counting.runs)) == len(set(texts)), "the same text is run once"


def test_a_cancelled_request_does_not_affect_others() -> None:
    async def talk() -> list[Any]:
        batcher = Batcher(Counting())
        gone = asyncio.create_task(batcher.embed([(1, 2)]))
        stays = asyncio.create_task(batcher.embed([(1, 2)]))
        await asyncio.sleep(0)
        gone.cancel()
        running = asyncio.create_task(batcher.run())
        found = await stays
        running.cancel()
        return found

    assert list(asyncio.run(talk())[0]) == [3, 2]


def test_a_failed_model_is_an_error_for_its_own_requests_only() -> None:
    async def talk() -> None:
        def run(batch: Sequence[Sequence[int]]) -> Any:
            if batch[0][0] == 0:
                raise ValueError("no")
            return np.ones((len(batch), 1))

        batcher = Batcher(run)
        running = asyncio.create_task(batcher.run())
        with pytest.raises(RuntimeError):
            await batcher.embed([(0,)])
        assert await batcher.embed([(1,)])
        running.cancel()

    asyncio.run(talk())


# --- caches ---------------------------------------------------------------------------------------


def test_an_object_created_by_one_replica_is_found_by_another(
    settings: EmbeddingsSettings, engine: Engine, cache_server: str
) -> None:
    shared = settings.model_copy(update={"cache_url": cache_server})

    async def talk() -> list[int]:
        counts: list[int] = []
        for _ in range(2):
            counting: list[int] = []

            def run(batch: Any, counted: list[int] = counting) -> Any:
                counted.append(len(batch))
                return engine.run(batch)

            batcher, cache = Batcher(run), Cache(shared)
            vectors = Vectors(engine, batcher, cache)
            running = asyncio.create_task(batcher.run())
            (a,), _ = await vectors.of(["shared"])
            (b,), _ = await vectors.of(["shared"])
            assert np.array_equal(a, b)
            counts.append(sum(counting))
            running.cancel()
            await cache.close()
        return counts

    assert asyncio.run(talk()) == [1, 0]


def test_grpc_gives_the_same_vectors(engine: Engine, settings: EmbeddingsSettings) -> None:
    async def talk() -> None:
        batcher = Batcher(engine.run)
        vectors = Vectors(engine, batcher, Cache(settings))
        server = rpc.Server(settings, Calls(vectors).add)
        running = [asyncio.create_task(part.run()) for part in (batcher, server)]
        while not server.port:
            await asyncio.sleep(0.01)
        async with rpc.channel(f"127.0.0.1:{server.port}") as channel:
            stub: Any = service.EmbeddingsServiceStub(rpc.Identified(channel, "embeddings"))
            answer = await stub.Embed(messages.EmbedRequest(texts=["x", "y"]))
            (expected, _), _ = await vectors.of(["x", "y"])
            assert np.array_equal(np.frombuffer(answer.vectors[0], "<f4"), expected)
            long = messages.EmbedRequest(texts=["word " * 400], whole=True)
            with pytest.raises(grpc.aio.AioRpcError, match="256"):
                await stub.Embed(long)
            assert len((await stub.Embed(messages.EmbedRequest(texts=long.texts))).vectors) == 1
        for task in running:
            task.cancel()

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_the_service_starts_and_is_ready(settings: EmbeddingsSettings) -> None:
    with TestClient(create(settings)) as client:
        ready(client)


OPERATIONS = [
    ("POST", "/v1/embeddings", {"input": "x"}),
    ("GET", "/v1/models", None),
    ("POST", "/embed", {"inputs": "x"}),
    ("POST", "/rerank", {"query": "x", "texts": ["y"]}),
    ("POST", "/similarity", {"inputs": {"source_sentence": "x", "sentences": ["y"]}}),
    ("GET", "/info", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
def test_only_services_that_may_call_are_answered_over_rest(
    embeddings: httpx.Client, cluster: Cluster, method: str, path: str, body: Any
) -> None:
    def status(shown: str) -> int:
        return embeddings.request(method, path, json=body, headers={"authorization": shown}).status_code

    assert status(f"Bearer {cluster.token('router', 'embeddings')}") == 200
    for shown in ("", "Bearer ", "Bearer cf-" + "a" * 40, f"Bearer {cluster.token('router', 'prompt')}"):
        assert status(shown) == 401, shown
    assert status(f"Bearer {cluster.token('prompt', 'embeddings')}") == 403


def test_every_operation_authenticates_its_caller() -> None:
    described = {(method.upper(), path) for path, found in document()["paths"].items() for method in found}
    assert described == {(method, path) for method, path, _ in OPERATIONS}


def test_the_openapi_document_is_current() -> None:
    kept = json.loads((Path(__file__).parents[1] / "openapi.json").read_text())
    assert document() == kept
