"""vLLM's server requires the key on every path, except for those of the kubelet and Prometheus."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from model_door import Door

KEY = "key-of-the-model-server"


async def _answer(_: Request) -> Response:
    return PlainTextResponse("answered")


async def _talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("answered")
    await socket.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> httpx.Client:
    """Answers on every path, as vLLM also does on paths outside of /v1."""
    methods = ["GET", "POST", "OPTIONS"]
    routes = [WebSocketRoute("/v1/realtime", _talk), Route("/{path:path}", _answer, methods=methods)]
    file = tmp_path_factory.mktemp("secrets") / "key"
    file.write_text(f"{KEY}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL_KEY_FILE", str(file))
        client = TestClient(Starlette(routes=routes, middleware=[Middleware(Door)]))
        client.get("/health")  # creates the middleware
    return client


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_the_kubelet_and_prometheus_need_no_key(server: httpx.Client, path: str) -> None:
    assert server.get(path).text == "answered"
    assert server.post(path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/invocations"), ("POST", "/tokenize"),
     ("POST", "/pooling"), ("GET", "/health/"), ("GET", "//health"), ("OPTIONS", "/v1/models"),
     ("GET", "/health%2f..%2fv1/models")],
)  # fmt: skip
def test_every_other_path_requires_the_key(server: httpx.Client, method: str, path: str) -> None:
    for shown in ({}, {"authorization": KEY}, {"authorization": f"Basic {KEY}"}, {"authorization": f"Bearer {KEY} "},
                  {"x-api-key": KEY}):  # fmt: skip
        assert server.request(method, path, headers=shown).status_code == 401, shown
    assert server.request(method, path, headers={"authorization": f"Bearer {KEY}"}).text == "answered"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=64))
def test_no_other_text_is_the_key(server: httpx.Client, text: str) -> None:
    expected = 200 if text == KEY else 401
    assert server.get("/v1/models", headers={"authorization": f"Bearer {text}"}).status_code == expected


def test_a_websocket_without_the_key_is_closed(server: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), server.websocket_connect("/v1/realtime"):
        pass
    with server.websocket_connect("/v1/realtime", headers={"authorization": f"Bearer {KEY}"}) as socket:
        assert socket.receive_text() == "answered"


def test_a_server_without_a_key_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODEL_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match="MODEL_KEY_FILE cannot be read"):
        Door(None)  # type: ignore[arg-type]
    (tmp_path / "none").write_text("\n")
    with pytest.raises(SystemExit, match="is empty"):
        Door(None)  # type: ignore[arg-type]
