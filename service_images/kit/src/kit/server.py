"""Runs a service with uvicorn on uvloop. It drains connections and open requests before it stops."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import Literal

import uvicorn
from starlette.applications import Starlette

from kit import nats_login
from kit.drain import DRAIN
from kit.settings import ServiceSettings

LINGER_S = 3.0
"""Seconds within which proxies use each pooled connection again, so that draining closes it without an error."""


class Server(uvicorn.Server):
    """Server that, before it stops, still answers for a while and closes each connection with its answer."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM starts the drain. A second one, or SIGINT, stops at once."""
        if sig != signal.SIGTERM or DRAIN.begun:
            super().handle_exit(sig, frame)
            return
        DRAIN.begin()
        timer = threading.Timer(LINGER_S, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()


def run(
    app: Starlette, settings: ServiceSettings, http: type[asyncio.Protocol] | Literal["httptools"] = "httptools"
) -> None:
    """Serve until SIGTERM or SIGINT, then complete open requests within `drain_seconds`."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=http,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    try:
        Server(config).run()
    finally:
        nats_login.end_all()
