"""The Router's gRPC API for services, with the same rules as over REST."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from cogniforge.router.v1 import router_pb2 as messages
from cogniforge.router.v1 import router_pb2_grpc as service
from kit import identity, rpc
from kit.settings import ServiceSettings
from router.__main__ import create
from router.calls import Calls
from router.core import Core
from router.front import Front
from router.routes import RouteTable
from router.semantic import SemanticCache

from .conftest import Target, serve

KEY = "cf-a-key"
TENANT = {"id": "acme", "keys": [hashlib.sha256(KEY.encode()).hexdigest()]}


@pytest.fixture
def called(targets: Callable[[int], list[Target]]) -> Iterator[Callable[..., Any]]:
    """Function that starts a Router with one target. Keyword arguments belong to the tenant and the route."""
    closing: list[Callable[[], object]] = []

    def make(tenant: dict[str, Any] | None = None, **route: Any) -> Any:
        (target,) = targets(1)
        route = {"model": "m", "targets": [{"name": "a", "upstream": target.url}], "timeout_seconds": 5, **route}
        core = Core(RouteTable.model_validate({"routes": [route], "tenants": [{**TENANT, **(tenant or {})}]}))
        calls = rpc.Server(ServiceSettings(name="router", rpc_port=0, host="127.0.0.1"), Calls(core).add)
        server, thread, _ = serve(create(core, calls), Front.of(core))
        while not calls.port:
            time.sleep(0.01)
        channel = grpc.insecure_channel(f"127.0.0.1:{calls.port}")

        def stop() -> None:
            channel.close()
            server.should_exit = True
            thread.join()

        closing.append(stop)
        return SimpleNamespace(stub=service.RouterServiceStub(channel), target=target, core=core)

    yield make
    for close in closing:
        close()


def ask(router: Any, key: str = KEY, **more: Any) -> messages.ChatResponse:
    """One question."""
    metadata = [("authorization", f"Bearer {key}"), *identity.OWN.metadata("router"), *more.pop("metadata", [])]
    said = [messages.Message(role="user", content=more.pop("content", "hello"))]
    question = messages.ChatRequest(**{"model": "m", "messages": said, **more})
    return router.stub.Chat(question, metadata=metadata, timeout=10)


def refusal(router: Any, **more: Any) -> tuple[grpc.StatusCode, str | None]:
    """(status, error code) of a refusal."""
    with pytest.raises(grpc.RpcError) as found:
        ask(router, **more)
    error: Any = found.value
    return error.code(), dict(error.trailing_metadata()).get("error-code")


def test_a_model_answers(called: Callable[..., Any]) -> None:
    answer = ask(called())
    assert (answer.content, answer.input_tokens, answer.output_tokens) == ("one two three", 5, 3)


def test_unset_fields_are_not_sent(called: Callable[..., Any]) -> None:
    router = called()
    ask(router)
    ask(router, max_tokens=7, temperature=0)
    message = {"role": "user", "content": "hello"}
    assert router.target.seen == [
        {"model": "m", "messages": [message]},
        {"model": "m", "messages": [message], "max_tokens": 7, "temperature": 0.0},
    ]


def test_a_key_that_is_not_known_is_refused(called: Callable[..., Any]) -> None:
    assert refusal(called(), key="cf-another") == (grpc.StatusCode.UNAUTHENTICATED, "invalid_api_key")


def test_a_model_that_is_not_known_is_refused(called: Callable[..., Any]) -> None:
    assert refusal(called(), model="none") == (grpc.StatusCode.NOT_FOUND, "model_not_found")


def test_a_chat_without_a_message_is_refused(called: Callable[..., Any]) -> None:
    assert refusal(called(), messages=[]) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_value")


def test_limits_hold(called: Callable[..., Any]) -> None:
    router = called({"requests_per_minute": 1})
    ask(router)
    assert refusal(router) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate_limit_exceeded")


def test_a_targets_refusal_is_reported(called: Callable[..., Any]) -> None:
    router = called()
    router.target.status = 400
    assert refusal(router) == (grpc.StatusCode.INVALID_ARGUMENT, "upstream_refused")


def test_a_targets_failure_is_reported(called: Callable[..., Any]) -> None:
    router = called(attempts=1)
    router.target.status = 500
    assert refusal(router) == (grpc.StatusCode.UNKNOWN, "upstream_error")


def test_a_timeout_is_reported(called: Callable[..., Any]) -> None:
    router = called(timeout_seconds=0.3, attempts=1)
    router.target.delay_s = 5
    assert refusal(router) == (grpc.StatusCode.DEADLINE_EXCEEDED, "timeout")


def test_a_cached_answer_reports_its_original_usage(called: Callable[..., Any]) -> None:
    router = called(cache={"ttl_seconds": 60})
    first, second = (ask(router, temperature=0) for _ in range(2))
    assert first == second and len(router.target.seen) == 1


def test_services_requests_bypass_the_semantic_cache(called: Callable[..., Any]) -> None:
    router = called(cache={"any_temperature": True, "similarity": 0.5})
    looked: list[str] = []

    async def vector(text: str, _: bytes) -> list[float]:
        looked.append(text)
        return [1.0]

    router.core.semantic = SemanticCache("127.0.0.1:9")
    router.core.semantic.vector = vector
    for reader in ("alice", "bob"):
        ask(router, content=f"passages of {reader}")
    assert len(router.target.seen) == 2
    assert not looked


def test_a_call_is_measured_like_a_request(called: Callable[..., Any]) -> None:
    router = called()
    ask(router)
    assert router.core.measures.requests.values["/v1/chat/completions", "m", "200"] == 1


def test_a_cancelled_waiter_holds_nothing(called: Callable[..., Any]) -> None:
    router = called()
    router.target.delay_s = 5
    call = router.stub.Chat.future(
        messages.ChatRequest(model="m", messages=[messages.Message(role="user", content="x")]),
        metadata=[("authorization", f"Bearer {KEY}"), *identity.OWN.metadata("router")],
    )
    _until(lambda: bool(router.target.seen))
    call.cancel()
    _until(lambda: not router.core.in_flight)
    assert router.core.measures.requests.values["/v1/chat/completions", "m", "499"] == 1


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
