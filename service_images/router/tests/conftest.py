"""A Router and its upstreams on loopback, each on its own thread."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from router.__main__ import create  # noqa: E402
from router.core import Core  # noqa: E402
from router.front import Front  # noqa: E402
from router.routes import RouteTable  # noqa: E402

from service_images.ports import free_port  # noqa: E402


def serve(app: Any, http: Any = "httptools") -> tuple[uvicorn.Server, threading.Thread, str]:
    """Run an application until `should_exit` of the server is set."""
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", http=http, loop="uvloop")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    return server, thread, f"http://127.0.0.1:{port}"


def until(what: Callable[[], object], seconds: float = 30) -> None:
    """Wait until a condition is true. Fails after the time limit."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


OTHERS = ("completions", "embeddings", "responses")


class Target:
    """An OpenAI-compatible server whose behaviour the test controls."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[dict[str, Any]] = []
        self.status = 200
        self.delay_s = 0.0
        self.released: threading.Event | None = None
        """Answers wait for it."""
        self.words = ["one", "two", "three"]
        self.break_after: int | None = None
        """Number of words of a stream after which the connection is closed."""
        self.in_pieces = True
        """Whether texts of the Responses API are sent as deltas before the whole text."""
        self.refusal: dict[str, Any] = {"error": {"message": "no"}}
        """Body of an answer with an error status."""
        self.message: dict[str, Any] = {}
        """Additional fields of a whole answer's message."""
        self.choice: dict[str, Any] = {}
        """Additional fields of a whole answer's choice."""
        self.finish_reason = "stop"
        self.tokens: int | None = None
        """Result of counting tokens."""
        self.done = True
        """Whether a stream ends with a final event."""
        self.arguments: list[str] = []
        """Pieces of the arguments of a tool call."""
        routes = [
            Route("/v1/models", lambda _: JSONResponse({"data": []})),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            *(
                Route(f"/v1/{name}", self.other, methods=["POST"])
                for name in ("completions", "embeddings", "responses")
            ),
        ]
        self.app = Starlette(routes=routes)
        self.server, self.thread, self.url = serve(self.app)

    async def chat(self, request: Request) -> Response:
        """Answer."""
        body = await request.json()
        self.seen.append(body)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.released is not None:
            await asyncio.to_thread(self.released.wait, 60)
        if self.status != 200:
            return JSONResponse(self.refusal, self.status)
        usage = {"prompt_tokens": 5, "completion_tokens": len(self.words), "total_tokens": 5 + len(self.words)}
        if not body.get("stream"):
            message = {"role": "assistant", "content": " ".join(self.words), "by": self.name, **self.message}
            choice = {"index": 0, "message": message, "finish_reason": self.finish_reason, **self.choice}
            return JSONResponse({"choices": [choice], "usage": usage})
        return StreamingResponse(self._events(body, usage), media_type="text/event-stream")

    async def tokenize(self, _: Request) -> Response:
        """Count tokens, if enabled."""
        return (
            JSONResponse({"detail": "Not Found"}, 404) if self.tokens is None else JSONResponse({"count": self.tokens})
        )

    async def other(self, request: Request) -> Response:
        """Answer all other requests."""
        body = await request.json()
        self.seen.append(body)
        if body.get("stream") and request.url.path == "/v1/responses":
            return StreamingResponse(self._response(), media_type="text/event-stream")
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        if request.url.path == "/v1/completions":
            choice = {"index": 0, "text": " ".join(self.words), "finish_reason": "stop", "logprobs": None}
            return JSONResponse({"object": "text_completion", "choices": [choice], "usage": usage})
        return JSONResponse({"object": "list", "data": [], "usage": usage})

    async def _response(self) -> Any:
        """Events of the Responses API."""
        text = "".join(f"{word} " for word in self.words)
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "i", "role": "assistant", "content": [part]}
        places = {"item_id": "i", "output_index": 0, "content_index": 0}
        whole = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": [item]}
        usage = {"input_tokens": 5, "output_tokens": len(self.words), "total_tokens": 5 + len(self.words)}
        events: list[tuple[str, dict[str, Any]]] = [
            ("created", {"response": {**whole, "status": "in_progress", "output": []}}),
            ("output_item.added", {"output_index": 0, "item": {**item, "content": []}}),
            ("content_part.added", {**places, "part": {**part, "text": ""}}),
            *(("output_text.delta", {**places, "delta": f"{word} "}) for word in self.words if self.in_pieces),
            ("output_text.done", {**places, "text": text}),
            ("content_part.done", {**places, "part": part}),
            ("output_item.done", {"output_index": 0, "item": item}),
            ("completed", {"response": {**whole, "usage": usage}}),
        ]
        for number, (kind, content) in enumerate(events):
            content_of_event = {"type": f"response.{kind}", "sequence_number": number, **content}
            yield b"event: " + content_of_event["type"].encode() + b"\n" + _event(content_of_event)
            await asyncio.sleep(0.002)

    async def _events(self, body: dict[str, Any], usage: dict[str, int]) -> Any:
        said = str(body["messages"][-1].get("content")).split() if body.get("continue_final_message") else []
        yield _event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for number, word in enumerate(self.words[len(said) :]):
            if self.break_after == number:
                raise RuntimeError("the model died")
            yield _event({"choices": [{"index": 0, "delta": {"content": f"{word} "}}]})
            await asyncio.sleep(0.005)
        for number, piece in enumerate(self.arguments):
            call = {"index": 0, "function": {"arguments": piece}}
            named = {"id": "c", "type": "function", "function": {"name": "f", "arguments": piece}}
            yield _event({"choices": [{"index": 0, "delta": {"tool_calls": [call | named if number == 0 else call]}}]})
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _event({"choices": [], "usage": usage})
        if self.done:
            yield b"data: [DONE]\n\n"

    def stop(self) -> None:
        """Stop the server, without waiting for unanswered requests."""
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


class Says:
    """A server that answers every request with the same bytes."""

    def __init__(
        self, pieces: list[bytes], status: int, headers: dict[str, str], *, stays_open: bool, breaks: bool
    ) -> None:
        self.name = "says"
        self.seen: list[bytes] = []
        self.heads: list[dict[str, str]] = []
        """Paths and headers of received requests."""
        self._pieces, self._status, self._headers = pieces, status, headers
        self._stays_open, self._breaks = stays_open, breaks
        app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])
        self.server, self.thread, self.url = serve(app)

    async def answer(self, request: Request) -> Response:
        """Send the answer in pieces."""
        self.heads.append({"path": request.url.path, **request.headers})
        self.seen.append(await request.body())
        return StreamingResponse(self._said(), self._status, self._headers)

    async def _said(self) -> Any:
        for piece in self._pieces:
            yield piece
            await asyncio.sleep(0.002)
        if self._breaks:
            raise RuntimeError("the model died")
        while self._stays_open:
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Stop the server, without waiting for unanswered requests."""
        self.server.should_exit = self.server.force_exit = True
        self._stays_open = False
        self.thread.join()


class Running:
    """A running Router."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.core = Core(RouteTable.model_validate(table))
        self.server, self.thread, self.url = serve(create(self.core), Front.of(self.core))
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=20)

    def ask(self, content: str = "hello", **more: Any) -> httpx.Response:
        """Request a chat completion."""
        headers = more.pop("headers", {})
        body = {"model": "m", "messages": [{"role": "user", "content": content}], **more}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def stream(self, **more: Any) -> list[Any]:
        """Decoded events of a streamed completion; "[DONE]" is kept as text."""
        text = self.ask(stream=True, **more).text
        lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def targets() -> Iterator[Callable[[int], list[Target]]]:
    """Makes targets."""
    made: list[Target] = []

    def make(count: int) -> list[Target]:
        made.extend(Target("abcdef"[i]) for i in range(count))
        return made

    yield make
    for target in made:
        target.stop()


@pytest.fixture
def says() -> Iterator[Callable[..., Says]]:
    """Function that starts servers which answer with the given pieces: events, or a body."""
    made: list[Says] = []

    def make(
        pieces: list[bytes],
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        stays_open: bool = False,
        breaks: bool = False,
    ) -> Says:
        headers = {"content-type": "text/event-stream", **(headers or {})}
        made.append(Says(pieces, status, headers, stays_open=stays_open, breaks=breaks))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    """Function that starts a Router with targets. Keyword arguments belong to the route, `tenants` to the table."""
    made: list[Running] = []

    def make(among: list[Target], tenants: list[dict[str, Any]] | None = None, **route: Any) -> Running:
        listed = [{"name": t.name, "upstream": t.url, "output_price": 1_000_000} for t in among]
        table = {"routes": [{"model": "m", "targets": listed, "timeout_seconds": 5, **route}], "tenants": tenants or []}
        made.append(Running(table))
        return made[-1]

    yield make
    for one in made:
        one.stop()
