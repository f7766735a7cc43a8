"""Answers by what was meant, with vectors of the real model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCES / "embeddings" / "src"))

from embeddings.engine import Engine  # noqa: E402
from router.semantic import SemanticCache  # noqa: E402


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> Engine:
    return Engine(model_folder, 1)


@pytest.fixture
def asked(running: Callable[..., Any], targets: Callable[[int], list[Any]], engine: Engine) -> tuple[Any, Any]:
    """A router whose cache goes by meaning, and its one target."""
    (target,) = targets(1)
    router = running([target], cache={"any_temperature": True, "similarity": 0.8})
    made = SemanticCache("127.0.0.1:9")

    async def vector(text: str, _: bytes) -> Any:
        return engine.run(engine.tokens([text]))[0].tolist()

    made.vector = vector  # type: ignore[method-assign]
    router.core.semantic = made
    return router, target


def test_a_question_that_means_the_same_is_answered_again(asked: tuple[Any, Any]) -> None:
    router, target = asked
    assert "x-cache" not in router.ask("How do I reset my password?").headers
    assert router.ask("How can I reset my password?").headers["x-cache"] == "hit"
    assert "x-cache" not in router.ask("What is the capital of France?").headers
    assert len(target.seen) == 2


def test_what_was_said_before_must_be_equal(asked: tuple[Any, Any]) -> None:
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


def test_a_repeated_request_is_an_equal_one_whatever_it_means(asked: tuple[Any, Any]) -> None:
    router, target = asked
    for number, question in enumerate(("How do I reset my password?", "How can I reset my password?")):
        answer = router.ask(question, headers={"idempotency-key": str(number)})
        assert "x-cache" not in answer.headers
    assert len(target.seen) == 2


def test_without_embeddings_the_model_is_asked(running: Any, targets: Any) -> None:
    (target,) = targets(1)
    router = running([target], cache={"any_temperature": True, "similarity": 0.8})
    router.core.semantic = SemanticCache("127.0.0.1:9")
    assert router.ask("How do I reset my password?").status_code == 200
    assert len(target.seen) == 1
