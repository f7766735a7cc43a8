"""The way to NATS: the router's name, its credentials, and its client's own words kept for debugging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nats
from kit import logs
from nats.aio.client import Client

log = logs.get("router.bus")


async def _on_error(error: Exception) -> None:
    log.debug("NATS", reason=repr(error))


async def connect(url: str, credentials: Path | None, **options: Any) -> Client:
    """Connect; `options` say what happens when the connection is lost."""
    if credentials:
        options["user_credentials"] = str(credentials)
    return await nats.connect(url, name="router", error_cb=_on_error, **options)
