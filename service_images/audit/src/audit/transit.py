"""Audit's keys in the secret store: one that signs, and one for each tenant that encrypts the tenant's data key.

The store never shows a key. Audit makes and destroys the tenants' keys itself, in an engine that no other service
reaches. Whoever has a copy of the database cannot read the entries of a tenant whose key is destroyed there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from kit.secret_store import SecretStore, StoreRefused, StoreUnavailable, Token

_RENEWED = 1 / 2
"""Share of a login's time after which Audit logs in again."""
_PAUSE_S = 1.0
"""Seconds after a failure in which the store is not asked: requests fail at once instead of waiting one by one."""
_GONE = ("not found", "could not be found")
"""In the store's answers about a key that does not exist."""


class KeyGone(Exception):
    """The store has no such key: it is destroyed."""


class Transit:
    """Requests to the store with a login of this process."""

    def __init__(self, store: SecretStore) -> None:
        self._store, self._token, self._until = store, None, 0.0
        self._token: Token | None
        self._turn = asyncio.Lock()
        self._failure, self._again_at = "", 0.0
        self._signing, self._engine = f"{store.role}.signing", f"transit.{store.role}.sealing"

    async def close(self) -> None:
        """End the login, and close the connections."""
        if self._token is not None:
            with contextlib.suppress(StoreUnavailable, StoreRefused):  # the login expires within the hour
                await self._store.end(self._token)
        await self._store.close()

    async def sign(self, text: bytes, version: int) -> bytes:
        """Signature by a version of the signing key. Raises StoreUnavailable or StoreRefused."""
        body = {"input": _text(text), "key_version": version}
        found = await self._ask("POST", f"transit/sign/{self._signing}", body)
        return base64.b64decode(str(found["signature"]).rsplit(":", 1)[1])

    async def signing_keys(self) -> dict[int, bytes]:
        """Public keys of 32 bytes by version."""
        found = (await self._ask("GET", f"transit/keys/{self._signing}"))["keys"]
        return {int(version): base64.b64decode(one["public_key"]) for version, one in found.items()}

    async def rotations(self) -> int:
        """Number of rotations of the tenants' keys that an operator has asked for."""
        return await self._version("rotation.sealing")

    async def rotated(self) -> int:
        """Number of rotations of the tenants' keys that are finished."""
        return await self._version("rotated.sealing")

    async def count(self, finished: int) -> None:
        """Count finished rotations up to this number. Replicas may do so at the same time."""
        for number in range(await self.rotated(), finished):
            body = {"data": {}, "options": {"cas": number}}
            with contextlib.suppress(StoreRefused):  # another replica was first
                await self._ask("POST", f"kv/data/{self._store.role}/rotated.sealing", body)

    async def _version(self, name: str) -> int:
        try:
            found = await self._ask("GET", f"kv/data/{self._store.role}/{name}")
        except StoreRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return 0
            raise
        return int(found["metadata"]["version"])

    async def make(self, name: str) -> None:
        """Make a tenant's key. No effect if it exists."""
        await self._ask("POST", f"{self._engine}/keys/{name}", {"type": "aes256-gcm96", "exportable": False})

    async def wrap(self, name: str, key: bytes, tenant: str) -> str:
        """Encrypt a tenant's data key. Raises KeyGone."""
        body = {"plaintext": _text(key), "associated_data": _text(tenant.encode())}
        return str((await self._ask_key("POST", f"{self._engine}/encrypt/{name}", body))["ciphertext"])

    async def unwrap(self, name: str, wrapped: str, tenant: str) -> bytes:
        """Decrypt a tenant's data key. Raises KeyGone."""
        body = {"ciphertext": wrapped, "associated_data": _text(tenant.encode())}
        return base64.b64decode((await self._ask_key("POST", f"{self._engine}/decrypt/{name}", body))["plaintext"])

    async def rotate(self, name: str) -> None:
        """Add a version to a tenant's key, with which `wrap` encrypts from now on. Raises KeyGone."""
        await self._ask_key("POST", f"{self._engine}/keys/{name}/rotate", {})

    async def destroy(self, name: str) -> None:
        """Destroy a tenant's key with all versions. No effect if it does not exist."""
        with contextlib.suppress(KeyGone):
            await self._ask_key("POST", f"{self._engine}/keys/{name}/config", {"deletion_allowed": True})
            await self._ask_key("DELETE", f"{self._engine}/keys/{name}")

    async def names(self) -> set[str]:
        """Names of all tenants' keys."""
        try:
            return set((await self._ask("GET", f"{self._engine}/keys?list=true"))["keys"])
        except StoreRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:  # the answer for an empty list, too
                return set()
            raise

    async def _ask_key(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return await self._ask(method, path, body)
        except StoreRefused as refused:
            if refused.status in (400, 404) and any(text in str(refused) for text in _GONE):
                raise KeyGone(str(refused)) from None
            raise

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        if time.monotonic() < self._again_at:
            raise StoreUnavailable(self._failure)
        try:
            token = await self._login()
            try:
                found = await self._store.ask(method, path, token, body)
            except StoreRefused as refused:
                if refused.status != HTTPStatus.FORBIDDEN:
                    raise
                # The store was restored, or an operator has ended the login.
                found = await self._store.ask(method, path, await self._login(token), body)
        except StoreUnavailable as error:
            self._failure, self._again_at = str(error), time.monotonic() + _PAUSE_S
            raise
        return found.get("data") or {}

    async def _login(self, ended: Token | None = None) -> Token:
        """The login, or a new one if it is `ended` or half of its time is over."""
        async with self._turn:
            held = self._token
            if held is not None and held is not ended and time.monotonic() < self._until:
                return held
            try:
                new = await self._store.login()
            except StoreRefused as refused:  # such as before the store is configured
                raise StoreUnavailable(str(refused)) from None
            self._token, self._until = new, time.monotonic() + new.lasts_s * _RENEWED
            return new


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
