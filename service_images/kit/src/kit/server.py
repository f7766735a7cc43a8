"""Runs a service: uvicorn on uvloop, draining open requests when it is told to stop."""

from __future__ import annotations

import uvicorn
from starlette.applications import Starlette

from kit.settings import ServiceSettings


def run(app: Starlette, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is open within `drain_seconds`."""
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
