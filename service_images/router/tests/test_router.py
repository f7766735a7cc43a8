"""The Router with a real upstream on loopback."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from kit import telemetry  # noqa: E402
from router.__main__ import create  # noqa: E402
from router.core import Core  # noqa: E402
from router.front import Front  # noqa: E402
from router.routes import RouteTable, RouteTableError, load  # noqa: E402

from .conftest import serve, until  # noqa: E402

REGISTERED: list[Any] = []
"""Collectors of the latest Router: a process has one Router, but tests have several."""
HELLO = {"role": "user", "content": "hello"}


class Upstream:
    """An OpenAI-compatible server that answers with the received request."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []
        routes = [
            Route("/v1/models", lambda _: JSONResponse({"data": []})),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.seen.append((dict(request.headers), body))
        content = body["messages"][-1].get("content")
        if content == "fail":
            return JSONResponse({"secret": "details"}, 500)
        if content == "slow":
            await asyncio.sleep(3)
        if body.get("stream"):

            async def events() -> Any:
                for word in ("one", "two", "three"):
                    yield f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n"
                    await asyncio.sleep(0.01)
                if any(message.get("content") == "break" for message in body["messages"]):
                    raise RuntimeError("the model died")
                yield "data: [DONE]\n\n"

            return StreamingResponse(events(), media_type="text/event-stream")
        return JSONResponse({"choices": [{"message": {"content": content}}], "model": body["model"]})


def _router(table: RouteTable) -> tuple[uvicorn.Server, threading.Thread, str]:
    core = Core(table)
    for collector in REGISTERED:
        telemetry.REGISTRY.unregister(collector)
    REGISTERED[:] = core.measures.register()
    return serve(create(core), Front.of(core))


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[Upstream, str]]:
    model = Upstream()
    server, thread, url = serve(model.app)
    yield model, url
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def router(upstream: tuple[Upstream, str]) -> Iterator[httpx.Client]:
    table = RouteTable.model_validate(
        {
            "routes": [
                {"model": "demo", "upstream": upstream[1], "timeout_seconds": 1},
                {"model": "alias", "upstream": upstream[1], "upstream_model": "real-name"},
                # A target that fails on purpose has its own breaker.
                {"model": "failing", "upstream": upstream[1], "timeout_seconds": 1},
                {"model": "gone", "upstream": "http://127.0.0.1:9"},
            ]
        }
    )
    server, thread, url = _router(table)
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client:
        yield client
    server.should_exit = True
    thread.join()


def ask(router: httpx.Client, **body: Any) -> httpx.Response:
    return router.post("/v1/chat/completions", json={"model": "demo", "messages": [HELLO], **body})


def test_an_answer_passes_through(router: httpx.Client) -> None:
    assert ask(router).json()["choices"][0]["message"]["content"] == "hello"


def test_a_stream_passes_through_in_pieces(router: httpx.Client) -> None:
    with router.stream(
        "POST", "/v1/chat/completions", json={"model": "demo", "messages": [HELLO], "stream": True}
    ) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert len(lines) == 4
    assert lines[-1] == "data: [DONE]"


def test_a_broken_stream_ends_with_an_error_event(router: httpx.Client) -> None:
    body = {"model": "failing", "messages": [{"role": "user", "content": "break"}], "stream": True}
    with router.stream("POST", "/v1/chat/completions", json=body) as answer:
        last = [line for line in answer.iter_lines() if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stream_interrupted"


def test_streams_are_counted_by_their_end(router: httpx.Client) -> None:
    def counted() -> dict[str, float]:
        text = router.get("/metrics").text
        found = re.findall(r'^router_streams_total{end="([a-z]+)",model="alias"} ([0-9.]+)$', text, re.MULTILINE)
        return {end: float(number) for end, number in found}

    body = {"model": "alias", "messages": [HELLO], "stream": True}
    router.post("/v1/chat/completions", json=body)
    assert counted() == {"complete": 1}
    router.post("/v1/chat/completions", json={**body, "messages": [{"role": "user", "content": "break"}]})
    assert counted() == {"complete": 1, "cut": 1}
    with router.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    until(lambda: counted() == {"complete": 1, "cut": 1, "left": 1})


def test_models_are_listed(router: httpx.Client) -> None:
    assert [m["id"] for m in router.get("/v1/models").json()["data"]] == ["demo", "alias", "failing", "gone"]


def test_one_model_is_described(router: httpx.Client) -> None:
    assert router.get("/v1/models/demo").json()["object"] == "model"


def test_an_alias_is_translated(router: httpx.Client) -> None:
    assert ask(router, model="alias").json()["model"] == "real-name"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nothing"}, 404, "model_not_found"),
        ({"model": "gone"}, 502, "unreachable"),
        ({"model": "failing", "messages": [{"role": "user", "content": "fail"}]}, 502, "upstream_error"),
        ({"messages": [{"role": "user", "content": "slow"}]}, 504, "timeout"),
        ({"messages": []}, 400, "invalid_value"),
        ({"messages": "hello"}, 400, "invalid_value"),
        ({"stream": "perhaps"}, 400, "invalid_value"),
    ],
)
def test_errors_have_the_envelope(router: httpx.Client, body: dict[str, Any], status: int, code: str) -> None:
    answer = ask(router, **body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


def test_details_of_an_upstream_failure_are_not_passed_on(router: httpx.Client) -> None:
    assert "secret" not in ask(router, model="failing", messages=[{"role": "user", "content": "fail"}]).text


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_bad_bytes_never_give_a_server_error(router: httpx.Client, body: bytes) -> None:
    answer = router.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=10), x, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.fixed_dictionaries({}, optional={"model": JSON, "messages": JSON, "stream": JSON}))
def test_bad_json_never_gives_a_server_error(router: httpx.Client, body: dict[str, Any]) -> None:
    assert router.post("/v1/chat/completions", json=body).status_code in {400, 404}


def test_a_body_over_the_limit_is_refused(router: httpx.Client) -> None:
    assert router.post("/v1/chat/completions", content=b"x" * (16 * 2**20 + 1)).status_code == 413


def test_an_unknown_path_has_the_envelope(router: httpx.Client) -> None:
    answer = router.get("/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


def test_the_request_id_is_given_back_and_passed_on(router: httpx.Client, upstream: tuple[Upstream, str]) -> None:
    answer = router.post(
        "/v1/chat/completions", json={"model": "demo", "messages": [HELLO]}, headers={"x-request-id": "mine"}
    )
    assert answer.headers["x-request-id"] == "mine"
    assert upstream[0].seen[-1][0]["x-request-id"] == "mine"


def test_a_request_id_that_could_forge_logs_is_replaced(router: httpx.Client) -> None:
    assert router.get("/v1/models", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_the_trace_continues_upstream(router: httpx.Client, upstream: tuple[Upstream, str]) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    router.post("/v1/chat/completions", json={"model": "demo", "messages": [HELLO]}, headers=headers)
    assert trace in upstream[0].seen[-1][0]["traceparent"]


def test_health_readiness_and_metrics(router: httpx.Client) -> None:
    assert router.get("/healthz").status_code == 200
    assert router.get("/readyz").status_code == 200
    ask(router)
    router.get("/v1/models")
    text = router.get("/metrics").text
    assert 'http_server_requests_total{method="GET",route="/v1/models",status="200"}' in text
    assert 'router_requests_total{model="demo",route="/v1/chat/completions",status="200"}' in text
    assert 'gen_ai_server_request_duration_seconds_bucket{gen_ai_operation_name="chat"' in text


def test_a_router_without_any_upstream_is_not_ready() -> None:
    table = RouteTable.model_validate({"routes": [{"model": "gone", "upstream": "http://127.0.0.1:9"}]})
    server, thread, url = _router(table)
    answer = httpx.get(f"{url}/readyz", trust_env=False)
    server.should_exit = True
    thread.join()
    assert answer.status_code == 503
    assert "gone" in answer.json()["failing"]["upstreams"]


def test_an_open_request_is_finished_when_the_service_stops(upstream: tuple[Upstream, str]) -> None:
    table = RouteTable.model_validate({"routes": [{"model": "demo", "upstream": upstream[1], "timeout_seconds": 10}]})
    server, thread, url = _router(table)
    answers: list[httpx.Response] = []
    body = {"model": "demo", "messages": [{"role": "user", "content": "slow"}]}
    caller = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=10))
    )
    before = len(upstream[0].seen)
    caller.start()
    deadline = time.monotonic() + 5
    while len(upstream[0].seen) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    server.should_exit = True
    thread.join()
    caller.join()
    assert answers[0].status_code == 200


def test_mistakes_in_the_route_table_are_named(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    file.write_text(json.dumps({"routes": [{"model": "", "upstream": "no url", "surprise": 1}]}))
    with pytest.raises(RouteTableError) as error:
        load(file)
    text = str(error.value)
    assert "routes.0.model" in text
    assert "routes.0.upstream" in text
    assert "routes.0.surprise" in text


def test_a_missing_route_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RouteTableError, match="No such file"):
        load(tmp_path / "nothing.json")
