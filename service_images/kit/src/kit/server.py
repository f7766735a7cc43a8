"""Runs a service: uvicorn on uvloop, draining connections and open requests when it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import Literal

import uvicorn
from starlette.applications import Starlette

from kit.drain import DRAIN
from kit.settings import ServiceSettings

LINGER_S = 3.0
"""A proxy's pooled connections are used, and so closed, within this time: none is cut off under a request."""


class Server(uvicorn.Server):
    """Told to stop, it first answers a little longer, closing each connection with its answer."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first SIGTERM begins the drain; a second one, or SIGINT, stops at once."""
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
    """Serve until SIGTERM or SIGINT, then finish what is open within `drain_seconds`."""
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
    Server(config).run()
