"""The service's operations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import psycopg
from prometheus_client import Counter, Histogram, generate_latest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from notes import settings

LONGEST = 4000
"""Characters of a question."""
REQUESTS = Counter("http_server_requests", "Requests.", ["route", "status"])
SECONDS = Histogram("http_server_request_duration_seconds", "Time to the answer.", ["route"])


def create() -> Starlette:
    """The application, over its database and the services that it asks."""
    # Behind a pool of transactions, a prepared statement would be another client's a moment later.
    options = {"prepare_threshold": None, "row_factory": dict_row}
    pool = AsyncConnectionPool(
        lambda: settings.database(pooled=True), open=False, min_size=1, max_size=4, kwargs=options
    )
    services = httpx.AsyncClient(timeout=60, trust_env=False)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pool, services:
            yield

    async def tenant(request: Request) -> str:
        """Whose key the caller shows: User knows it. Its refusal is the service's answer."""
        if not settings.USER:
            return "default"
        answer = await services.get(f"{settings.USER}/v1/self", headers=_shown(request))
        if answer.status_code != 200:
            raise HTTPException(answer.status_code, "the API key is missing or unknown")
        return answer.json()["tenant"]

    async def write(request: Request) -> Response:
        """Ask the Router with the caller's key, so that the caller's limits and budget hold; keep the answer."""
        whose, question = await tenant(request), await _question(request)
        asked = {"model": settings.MODEL, "messages": [{"role": "user", "content": question}], "max_tokens": 64}
        answer = await services.post(f"{settings.ROUTER}/v1/chat/completions", json=asked, headers=_shown(request))
        if answer.status_code != 200:
            return JSONResponse(answer.json(), answer.status_code)
        content = answer.json()["choices"][0]["message"]["content"]
        async with pool.connection() as connection:
            row = await connection.execute(
                "INSERT INTO notes (tenant, question, answer) VALUES (%s, %s, %s) RETURNING id, question, answer",
                (whose, question, content),
            )
            return JSONResponse(await row.fetchone(), 201)

    async def read(request: Request) -> Response:
        """The caller's notes, the newest first."""
        async with pool.connection() as connection:
            rows = await connection.execute(
                "SELECT id, question, answer FROM notes WHERE tenant = %s ORDER BY id DESC LIMIT 100",
                (await tenant(request),),
            )
            return JSONResponse({"notes": await rows.fetchall()})

    async def ready(_: Request) -> Response:
        try:
            async with pool.connection(timeout=2) as connection:
                await connection.execute("SELECT 1")
        except (psycopg.Error, TimeoutError):
            return PlainTextResponse("PostgreSQL does not answer", 503)
        return PlainTextResponse("ready")

    async def alive(_: Request) -> Response:
        return PlainTextResponse("alive")

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(generate_latest().decode())

    app = Starlette(
        routes=[
            Route("/v1/notes", _measured(write), methods=["POST"]),
            Route("/v1/notes", _measured(read), methods=["GET"]),
            Route("/readyz", ready),
            Route("/healthz", alive),
            Route("/metrics", metrics),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _refused},
    )
    return app


def _shown(request: Request) -> dict[str, str]:
    return {"authorization": request.headers.get("authorization", "")}


async def _question(request: Request) -> str:
    try:
        question = (await request.json())["question"]
    except (ValueError, KeyError, TypeError):
        question = None
    if not isinstance(question, str) or not 0 < len(question) <= LONGEST or "\0" in question:
        raise HTTPException(400, f'the body must be {{"question": "..."}} with 1 to {LONGEST} characters')
    return question


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": error.detail}}, error.status_code)


def _measured(operation: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The metrics that the platform's alerts and panels ask for."""

    async def measured(request: Request) -> Response:
        started, status = time.perf_counter(), 500
        try:
            response = await operation(request)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            REQUESTS.labels("/v1/notes", str(status)).inc()
            SECONDS.labels("/v1/notes").observe(time.perf_counter() - started)

    return measured
