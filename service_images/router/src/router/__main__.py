"""Starts the router."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from kit import app, logs, server, telemetry
from kit.settings import ServiceSettings
from starlette.applications import Starlette

from router.api import RouterApi
from router.discovery import Discovery
from router.routes import RouteTable, RouteTableError, load


class RouterSettings(ServiceSettings):
    """The router's settings."""

    name: str = "router"
    routes_file: Path = Path("/etc/router/routes.json")
    max_connections: int = 512
    discover: bool = False
    """Whether models that KServe serves in this namespace are found and followed."""


def create(settings: RouterSettings, table: RouteTable, discovery: Discovery | None = None) -> Starlette:
    """The router's application."""

    def routes() -> RouteTable:
        return discovery.table if discovery else table

    limits = httpx.Limits(max_connections=settings.max_connections, max_keepalive_connections=64)
    client = httpx.AsyncClient(limits=limits)
    api = RouterApi(routes, client)

    async def upstreams() -> str | None:
        """Ready when at least one model's server answers; one model's failure must not take the rest down."""
        last = "no routes"
        for route in routes().routes:
            try:
                answer = await client.get(f"{str(route.upstream).rstrip('/')}/v1/models", timeout=2.0)
                if answer.status_code < 500:
                    return None
                last = f"{route.model}: HTTP {answer.status_code}"
            except httpx.HTTPError as error:
                last = f"{route.model}: {error!r}"
        return last

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            following = asyncio.create_task(discovery.run()) if discovery else None
            yield
            if following:
                following.cancel()

    return app.create(api.routes(), {"upstreams": upstreams}, lifespan)


def main() -> int:
    """Serve; a broken route table is one line on standard error and exit status 1."""
    settings = RouterSettings()
    logs.configure(settings)
    telemetry.configure_tracing(settings)
    try:
        table = load(settings.routes_file)
    except RouteTableError as error:
        print(error, file=sys.stderr)
        return 1
    discovery = Discovery.in_cluster(table) if settings.discover else None
    server.run(create(settings, table, discovery), settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
