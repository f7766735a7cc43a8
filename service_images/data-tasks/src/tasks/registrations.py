"""Logins that pods have registered in the secret store, for the processes beside data servers."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kit.secret_store import SecretStore, StoreRefused, StoreUnavailable, Token
from kit.settings import ServiceSettings

LOGIN = re.compile(r"(?P<service>[a-z0-9-]+)\.[0-9a-f]{16}")
"""Name of a registered login."""
LASTS_S = 3600.0 + 60.0
"""Seconds that a registration lasts after it was written, with reserve for clocks that differ."""
GRACE_S = 30.0
"""Seconds that a login lasts whose registration is gone. A store that was restored from a snapshot has lost the newest
registrations; pods notice that within ten seconds, and register again."""
_READS = 8
"""Most requests to the store at the same time."""


@dataclass(frozen=True)
class Registration:
    """A login that a pod has registered."""

    value: str
    """Its password, or the digest of it."""
    until: float
    """Unix time of its end, unless it is renewed."""


class Registry:
    """The registrations in the store."""

    def __init__(self, store: SecretStore, system: str, entry: str) -> None:
        """`entry`: name of the value in a registration."""
        self._store, self._folder, self._entry = store, f"logins.{system}", entry
        self._token: Token | None = None
        self._reads = asyncio.Semaphore(_READS)

    async def read(self, login: str) -> Registration | None:
        """The registration in the store now; None if there is none. Raises StoreUnavailable."""
        answer = await self._ask("GET", f"kv/data/{self._folder}/{login}")
        if answer is None:
            return None
        written = datetime.fromisoformat(answer["data"]["metadata"]["created_time"]).timestamp()
        return Registration(str(answer["data"]["data"][self._entry]), written + LASTS_S)

    async def names(self) -> set[str]:
        """All registered logins. Raises StoreUnavailable."""
        answer = await self._ask("GET", f"kv/metadata/{self._folder}?list=true")
        return set(answer["data"]["keys"]) if answer else set()

    async def remove(self, login: str) -> None:
        """Remove a registration that was not renewed. Raises StoreUnavailable."""
        await self._ask("DELETE", f"kv/metadata/{self._folder}/{login}")

    async def _ask(self, method: str, path: str) -> dict[str, Any] | None:
        """Answer of the store; None for 404."""
        async with self._reads:
            for again in (True, False):
                if self._token is None:
                    self._token = await self._enter()
                try:
                    return await self._store.ask(method, path, self._token)
                except StoreRefused as error:
                    if error.status == 404:
                        return None
                    self._token = None  # it has expired, or the store was restored
                    if not again:
                        raise StoreUnavailable(str(error)) from None
        raise AssertionError("unreachable")

    async def _enter(self) -> Token:
        try:
            return await self._store.login()
        except StoreRefused as error:
            raise StoreUnavailable(str(error)) from None


def store(system: str) -> SecretStore:
    """A client with the role of the data server's pods."""
    settings = ServiceSettings(
        name=f"platform.{system}",
        store_url=os.environ["STORE_ADDRESS"],
        store_authority=Path(os.environ["STORE_AUTHORITY_FILE"]),
    )
    if folder := os.environ.get("STORE_TOKEN"):
        settings = settings.model_copy(update={"tokens_folder": Path(folder)})
    return SecretStore(settings)
