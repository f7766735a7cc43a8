"""Sessions of people: an encrypted cookie that holds the reader's own key. No replica keeps anything."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from starlette.responses import Response

COOKIE = "__Host-cogniforge-portal"
"""Browsers accept this prefix only with Secure, without a domain and for the whole host, so that no other host of the
domain can set the cookie."""
LASTS_S = 8 * 3600
"""Longest time from signing in, in seconds. A login's key is valid for the same time."""


class Session(msgspec.Struct, frozen=True):
    """A person who has signed in."""

    key: str
    """The person's API key."""
    csrf: str
    """Token that each form of this session contains."""
    tenant: str = ""
    key_id: str = ""
    user: str = ""
    scopes: tuple[str, ...] = ()
    began: float = 0.0
    """Time of signing in, in seconds since 1970."""
    login: bool = False
    """Whether the key was made by a login, and signing out may revoke it."""

    def allows(self, scope: str) -> bool:
        """Whether the key has the scope; every key has the scope ""."""
        return not scope or scope in self.scopes or self.operator

    @property
    def operator(self) -> bool:
        """Whether the key belongs to an operator of the platform."""
        return "admin" in self.scopes


class Sessions:
    """Reads and writes the cookie."""

    def __init__(self, secret: str) -> None:
        """Raises ValueError for a secret of less than 32 characters."""
        if len(secret) < 32:
            raise ValueError("SERVICE_SESSION_SECRET: it has less than 32 characters")
        self._cipher = Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"portal\0" + secret.encode()).digest()))

    def begin(self, answer: Response, key: str, about: Mapping[str, object], *, login: bool = False) -> Session:
        """Begin a session with a key; `about` is the answer of `GET /v1/self`."""
        made = Session(
            key=key,
            csrf=secrets.token_urlsafe(24),
            tenant=str(about.get("tenant", "")),
            key_id=str(about.get("key", "")),
            user=str(about.get("user", "")),
            scopes=tuple(str(scope) for scope in _listed(about.get("scopes"))),
            began=time.time(),
            login=login,
        )
        content = self._cipher.encrypt(msgspec.json.encode(made)).decode()
        answer.set_cookie(COOKIE, content, max_age=LASTS_S, path="/", secure=True, httponly=True, samesite="lax")
        return made

    def end(self, answer: Response) -> None:
        """Remove the cookie."""
        answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")

    def find(self, cookies: Mapping[str, str]) -> Session | None:
        """The session of a request. None: there is none, it has expired, or its cookie is not ours."""
        try:
            plain = self._cipher.decrypt(cookies.get(COOKIE, "").encode(), ttl=LASTS_S)
            return msgspec.json.decode(plain, type=Session)
        except (InvalidToken, msgspec.DecodeError, UnicodeEncodeError):
            return None


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []
