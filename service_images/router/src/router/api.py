"""The OpenAI API of the router: models and chat completions, streamed and not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from kit import logs
from kit.errors import ApiError, ErrorType
from opentelemetry import propagate
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from router.routes import ModelRoute, RouteTable

log = logs.get("router.api")
MAX_BODY_BYTES = 16 * 1024 * 1024
CREATED = 1_767_225_600
"""`created` of every model: the API wants a time, and a route has none."""


class ChatRequest(BaseModel):
    """The fields of a chat completion that the router itself reads; the rest passes through."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1)
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool = False


def _parse(body: bytes) -> ChatRequest:
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"])) or None
        raise ApiError(400, f"{param or 'body'}: {first['msg']}", param=param, code=first["type"]) from None


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"The body is larger than {MAX_BODY_BYTES} bytes.", code="body_too_large")
    return bytes(body)


class RouterApi:
    """Handlers over the route table of the moment and one HTTP client."""

    def __init__(self, table: Callable[[], RouteTable], client: httpx.AsyncClient) -> None:
        self._table = table
        self._client = client

    def routes(self) -> list[Route]:
        """What is served."""
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]

    @staticmethod
    def _describe(route: ModelRoute) -> dict[str, Any]:
        return {"id": route.model, "object": "model", "created": CREATED, "owned_by": route.owned_by}

    async def models(self, _: Request) -> Response:
        """List the models."""
        return JSONResponse({"object": "list", "data": [self._describe(r) for r in self._table().routes]})

    def _route(self, model: str) -> ModelRoute:
        route = self._table().find(model)
        if route is None:
            message = f"The model `{model[:256]}` does not exist."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_found")
        return route

    async def model(self, request: Request) -> Response:
        """Describe one model."""
        return JSONResponse(self._describe(self._route(request.path_params["model"])))

    async def chat(self, request: Request) -> Response:
        """Answer a chat completion from the model's upstream."""
        body = await _read(request)
        chat = _parse(body)
        route = self._route(chat.model)
        if route.upstream_model and route.upstream_model != chat.model:
            body = json.dumps({**json.loads(body), "model": route.upstream_model}).encode()
        upstream = self._upstream_request(request, route, body)
        try:
            answer = await self._client.send(upstream, stream=True)
        except httpx.TimeoutException:
            raise ApiError(504, "The model did not answer in time.", ErrorType.UPSTREAM, code="timeout") from None
        except httpx.HTTPError as error:
            log.warning("upstream failed", model=route.model, error=repr(error))
            raise ApiError(502, "The model cannot be reached.", ErrorType.UPSTREAM, code="unreachable") from None
        if chat.stream and answer.status_code == 200:
            return StreamingResponse(
                _relay(answer), media_type="text/event-stream", headers={"cache-control": "no-cache"}
            )
        return await _whole(answer)

    def _upstream_request(self, request: Request, route: ModelRoute, body: bytes) -> httpx.Request:
        headers = {"content-type": "application/json", "x-request-id": request.state.request_id}
        propagate.inject(headers)
        url = f"{str(route.upstream).rstrip('/')}/v1/chat/completions"
        timeout = httpx.Timeout(route.timeout_seconds, connect=5.0)
        return self._client.build_request("POST", url, content=body, headers=headers, timeout=timeout)


async def _relay(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Pass a stream on; a break in it becomes an error event, since the status line is long gone."""
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.HTTPError as error:
        log.warning("stream broke", error=repr(error))
        broken = ApiError(502, "The model's answer broke off.", ErrorType.UPSTREAM, code="stream_interrupted")
        yield b"data: " + json.dumps(broken.envelope()).encode() + b"\n\n"
    finally:
        await answer.aclose()


async def _whole(answer: httpx.Response) -> Response:
    try:
        content = await answer.aread()
    except httpx.HTTPError:
        raise ApiError(502, "The model's answer broke off.", ErrorType.UPSTREAM, code="incomplete") from None
    finally:
        await answer.aclose()
    if answer.status_code >= 500:
        log.warning("upstream error", status=answer.status_code, body=content[:500].decode(errors="replace"))
        raise ApiError(502, "The model failed to answer.", ErrorType.UPSTREAM, code="upstream_error")
    return Response(content, status_code=answer.status_code, media_type="application/json")
