"""Who may call: tenants and hashed API keys as the User service tells them through NATS, in the memory of each replica.

Two kinds of entries in the bucket `tenants`: `t.<tenant>` with the tenant's limits, and `k.<SHA-256 of the key>` with
what the key may do. A key that is revoked is an entry that is gone, which every replica is told within milliseconds.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec

from kit import bus
from kit.errors import ApiError, ErrorType
from kit.following import Following

BUCKET = "tenants"
TENANT, KEY = "t", "k"


class Scope(StrEnum):
    """What a key may be good for."""

    INFERENCE = "inference"
    EMBEDDINGS = "embeddings"
    GUARDRAILS = "guardrails"
    PROMPTS = "prompts"
    RETRIEVAL = "retrieval"
    BILLING = "billing"
    """What its tenant used, and owes."""
    AUDIT = "audit"
    """What the audit log has of its tenant."""
    MANAGE = "manage"
    """Users, teams, keys and relations of its tenant."""
    IMPERSONATE = "impersonate"
    """Keys for any user of its tenant, whoever asks."""
    ADMIN = "admin"
    """Everything, for every tenant; only such a key gives it."""


TENANT_SCOPES = tuple(scope for scope in Scope if scope not in (Scope.ADMIN, Scope.IMPERSONATE))
"""All that a tenant's key may do, but acting for others."""


class TenantEntry(msgspec.Struct, frozen=True):
    """A tenant, and what it may use; 0 and none: no limit."""

    id: str
    models: tuple[str, ...] = ()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


class Grant(msgspec.Struct, frozen=True):
    """What the holder of an API key may do."""

    tenant: str
    id: str = ""
    user: str = ""
    scopes: tuple[str, ...] = ()
    """What it may do; none: nothing that needs a scope."""
    expires: float | None = None
    """Seconds since 1970."""

    def allows(self, scope: str) -> bool:
        """Whether it may do this; what is called "" every key may do."""
        if not scope or self.operator:
            return True
        return scope in self.scopes

    @property
    def operator(self) -> bool:
        """Whether it is a key of those who run the platform."""
        return Scope.ADMIN in self.scopes

    @property
    def actor(self) -> str:
        """Who it is, for the audit log."""
        return f"user:{self.user}" if self.user else f"key:{self.id or self.tenant}"

    def fresh(self) -> bool:
        """Whether it has not expired."""
        return self.expires is None or self.expires > time.time()


_tenant = msgspec.json.Decoder(TenantEntry)
_grant = msgspec.json.Decoder(Grant)


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(headers: Mapping[str, str]) -> str:
    """The API key of a request: as OpenAI's clients send it, as Langfuse's do (basic), or as x-api-key.

    A browser keeps a key that its user typed in (basic), and adds it to requests that pages of other sites make. Those
    requests count as without a key. Source: Fetch Metadata Request Headers, "Sec-Fetch-Site".
    """
    value = headers.get("authorization", "")
    if value[:6].lower() == "basic ":
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return ""
        with contextlib.suppress(ValueError):
            return base64.b64decode(value[6:], validate=True).decode().partition(":")[2]
    return value[7:].strip() if value[:7].lower() == "bearer " else headers.get("x-api-key", "")


def unknown() -> ApiError:
    """The answer to who shows no key, or one that is not known, expired or revoked."""
    message = "The API key is missing or not known."
    return ApiError(401, message, ErrorType.AUTHENTICATION, code="invalid_api_key")


class Directory:
    """Follows the bucket for ever; answers from memory."""

    def __init__(self, url: str, login: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.tenants: dict[str, TenantEntry] = {}
        self.grants: dict[bytes, Grant] = {}
        """By the digest of the key."""
        self.changed: Callable[[str, str], None] = lambda _kind, _name: None
        """Told which entry is another one or gone: its kind, and the tenant's id or the key's digest in hex."""
        self._following = Following(url, BUCKET, self.take, login)

    @property
    def away_since(self) -> float | None:
        """Since when nothing could be learnt of revoked keys, by the monotonic clock; None: all is known."""
        return self._following.away_since

    async def authenticate(self, key: str) -> Grant:
        """For `rest.routes`."""
        return self.find(key)

    async def run(self) -> None:
        """For ever."""
        await self._following.run()

    def take(self, key: str, value: bytes | None) -> None:
        """One entry, or that it is gone."""
        kind, name = bus.parts(key)
        if kind == TENANT:
            if value is None:
                self.tenants.pop(name, None)
            else:
                self.tenants[name] = _tenant.decode(value)
        elif kind == KEY:
            if value is None:
                self.grants.pop(bytes.fromhex(name), None)
            else:
                self.grants[bytes.fromhex(name)] = _grant.decode(value)
        self.changed(kind, name)

    def find(self, key: str) -> Grant:
        """What the holder of a key may do. Raises ApiError(401) for a key that is not known any more, or not yet."""
        grant = self.grants.get(hashlib.sha256(key.encode()).digest()) if key else None
        if grant is None or not grant.fresh():
            raise unknown()
        return grant
