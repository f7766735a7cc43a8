"""The semantic cache, with vectors of the real model."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCES / "embeddings" / "src"))

from cogniforge.embeddings.v1 import embeddings_pb2 as messages  # noqa: E402
from embeddings.engine import MAX_TOKENS, Engine, shortened  # noqa: E402
from router.semantic import SemanticCache  # noqa: E402


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> Engine:
    return Engine(model_folder, 1)


@pytest.fixture
def asked(running: Callable[..., Any], targets: Callable[[int], list[Any]], engine: Engine) -> tuple[Any, Any]:
    """(Router with a semantic cache, its target)."""
    (target,) = targets(1)
    router = running([target], cache={"any_temperature": True, "similarity": 0.8})
    made = SemanticCache("127.0.0.1:9")

    class Stub:
        """Embeddings with the model, without a connection."""

        async def Embed(self, request: Any, **_: Any) -> Any:
            tokens = engine.tokens(request.texts)
            if request.whole and len(tokens[0]) > MAX_TOKENS:
                raise grpc.aio.AioRpcError(grpc.StatusCode.OUT_OF_RANGE, grpc.aio.Metadata(), grpc.aio.Metadata())
            vectors = engine.run([shortened(ids) for ids in tokens])
            return messages.EmbedResponse(vectors=[vector.astype("<f4").tobytes() for vector in vectors])

    made._client = SimpleNamespace(stub=Stub())  # type: ignore[assignment]
    router.core.semantic = made
    return router, target


def test_a_question_that_means_the_same_is_answered_again(asked: tuple[Any, Any]) -> None:
    router, target = asked
    assert "x-cache" not in router.ask("How do I reset my password?").headers
    assert router.ask("How can I reset my password?").headers["x-cache"] == "hit"
    assert "x-cache" not in router.ask("What is the capital of France?").headers
    assert len(target.seen) == 2


def test_earlier_messages_must_be_equal(asked: tuple[Any, Any]) -> None:
    router, target = asked
    question = {"role": "user", "content": "How do I reset my password?"}
    for system in ("Answer in French.", "Answer in German."):
        body = {"model": "m", "messages": [{"role": "system", "content": system}, question]}
        assert "x-cache" not in router.client.post("/v1/chat/completions", json=body).headers
    assert len(target.seen) == 2


def test_tenants_do_not_share_answers(running: Any, targets: Any, asked: tuple[Any, Any]) -> None:
    router, _ = asked
    first = router.ask("How do I reset my password?", headers={"x-client-id": "a"})
    second = router.ask("How can I reset my password?", headers={"x-client-id": "b"})
    assert "x-cache" not in first.headers and "x-cache" not in second.headers


def test_questions_with_other_numbers_are_others(asked: tuple[Any, Any]) -> None:
    router, target = asked
    for number in ("4711", "4712"):
        assert "x-cache" not in router.ask(f"What is in my order with the number {number}?").headers
    assert len(target.seen) == 2


def test_a_question_that_is_too_long_to_be_read_is_no_other(asked: tuple[Any, Any]) -> None:
    router, target = asked
    beginning = "Please read this text carefully and tell me what you think of it. " * 40
    for end in ("Is it about cats?", "Is it about dogs?"):
        assert "x-cache" not in router.ask(beginning + end).headers
    assert len(target.seen) == 2


def test_keys_of_one_tenant_do_not_share_answers(targets: Any, running: Any, asked: tuple[Any, Any]) -> None:
    keys = [hashlib.sha256(key).hexdigest() for key in (b"alice", b"bob")]
    router = running(
        [asked[1]], tenants=[{"id": "t", "keys": keys}], cache={"any_temperature": True, "similarity": 0.8}
    )
    router.core.semantic = asked[0].core.semantic
    for key, question in (("alice", "How do I reset my password?"), ("bob", "How can I reset my password?")):
        assert "x-cache" not in router.ask(question, headers={"authorization": f"Bearer {key}"}).headers


def test_the_semantic_cache_does_not_affect_repeated_requests(asked: tuple[Any, Any]) -> None:
    router, target = asked
    for number, question in enumerate(("How do I reset my password?", "How can I reset my password?")):
        answer = router.ask(question, headers={"idempotency-key": str(number)})
        assert "x-cache" not in answer.headers
    assert len(target.seen) == 2


def test_without_embeddings_the_model_is_called(running: Any, targets: Any) -> None:
    (target,) = targets(1)
    router = running([target], cache={"any_temperature": True, "similarity": 0.8})
    router.core.semantic = SemanticCache("127.0.0.1:9")
    assert router.ask("How do I reset my password?").status_code == 200
    assert len(target.seen) == 1
