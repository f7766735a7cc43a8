"""Directory of callers: tenants and hashed API keys, which User pushes through NATS into each replica's memory.

The bucket `tenants` has two kinds of entries: `t.<tenant>` with the tenant's limits, and `k.<SHA-256 of the key>` with
the key's rights. Revoking a key deletes its entry; every replica receives the deletion within milliseconds.
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
    """Scopes of API keys."""

    INFERENCE = "inference"
    EMBEDDINGS = "embeddings"
    GUARDRAILS = "guardrails"
    PROMPTS = "prompts"
    RETRIEVAL = "retrieval"
    BILLING = "billing"
    """Usage and invoices of its tenant."""
    AUDIT = "audit"
    """Audit entries of its tenant."""
    MANAGE = "manage"
    """Users, teams, keys and relations of its tenant."""
    IMPERSONATE = "impersonate"
    """Acting for any user of its tenant, and creating keys for them."""
    ADMIN = "admin"
    """All operations, for every tenant. Only a key with this scope can grant it."""


TENANT_SCOPES = tuple(scope for scope in Scope if scope not in (Scope.ADMIN, Scope.IMPERSONATE))
"""All scopes of a tenant's key, except acting for others."""


class TenantEntry(msgspec.Struct, frozen=True):
    """A tenant with its limits; 0 or none means no limit."""

    id: str
    models: tuple[str, ...] = ()
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


class Grant(msgspec.Struct, frozen=True):
    """Rights of an API key's holder."""

    tenant: str
    id: str = ""
    user: str = ""
    scopes: tuple[str, ...] = ()
    """Scopes of the key; empty allows only operations without a scope."""
    expires: float | None = None
    """Seconds since 1970."""
    client: str = ""
    """Program that acts for the user with the key; empty: nobody does."""

    def allows(self, scope: str) -> bool:
        """Whether the key has the scope; every key has the scope ""."""
        if not scope or self.operator:
            return True
        return scope in self.scopes

    @property
    def operator(self) -> bool:
        """Whether the key belongs to an operator of the platform."""
        return Scope.ADMIN in self.scopes

    @property
    def actor(self) -> str:
        """Identity of the holder for the audit log."""
        return f"user:{self.user}" if self.user else f"key:{self.id or self.tenant}"

    def fresh(self) -> bool:
        """Whether the key has not expired."""
        return self.expires is None or self.expires > time.time()


_tenant = msgspec.json.Decoder(TenantEntry)
_grant = msgspec.json.Decoder(Grant)


def digest(key: str) -> str:
    """Stored form of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def bearer(headers: Mapping[str, str]) -> str:
    """The API key of a request: a bearer token (OpenAI), the password of basic authentication (Langfuse), or x-api-key.

    A browser stores a password that its user typed in, and adds it to requests that pages of other sites make. Those
    requests count as having no key. Source: Fetch Metadata Request Headers, "Sec-Fetch-Site".
    """
    value = headers.get("authorization", "")
    if value[:6].lower() == "basic ":
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return ""
        with contextlib.suppress(ValueError):
            return base64.b64decode(value[6:], validate=True).decode().partition(":")[2]
    return value[7:].strip() if value[:7].lower() == "bearer " else headers.get("x-api-key", "")


def unknown() -> ApiError:
    """Error for a missing, unknown, expired or revoked key."""
    message = "The API key is missing or unknown."
    return ApiError(401, message, ErrorType.AUTHENTICATION, code="invalid_api_key")


class Directory:
    """Follows the bucket until cancelled, and answers from memory."""

    def __init__(self, url: str, login: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.tenants: dict[str, TenantEntry] = {}
        self.grants: dict[bytes, Grant] = {}
        """Grants by the digest of the key."""
        self.changed: Callable[[str, str], None] = lambda _kind, _name: None
        """Called for each changed or removed entry with its kind, and the tenant's ID or the key's digest in hex."""
        self._following = Following(url, BUCKET, self.take, login)

    @property
    def away_since(self) -> float | None:
        """Monotonic time since which revocations cannot be received; None while the bucket is followed."""
        return self._following.away_since

    async def authenticate(self, key: str) -> Grant:
        """Rights of a key's holder. An `Authenticate` for `rest_app`."""
        return self.find(key)

    async def run(self) -> None:
        """Run until cancelled."""
        await self._following.run()

    def take(self, key: str, value: bytes | None) -> None:
        """Apply a value, or None for a removed entry."""
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
        """Rights of a key's holder. Raises ApiError(401) for a key that is unknown, revoked or not yet received."""
        grant = self.grants.get(hashlib.sha256(key.encode()).digest()) if key else None
        if grant is None or not grant.fresh():
            raise unknown()
        return grant
