"""Login of a person with the environment's Keycloak: device flow (RFC 8628) with PKCE, and a key of User for the token.

The refresh token and the key are in a file that only its owner can read. A key lasts minutes; it is replaced with the
refresh token, as long as the session at Keycloak lasts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock

from cli import access
from components.config.security import CLI, REALM
from local import paths
from local.errors import LocalError

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_EARLY_S = 60
"""Seconds before its expiry from which a key is replaced."""
_AGAIN = "run `forge login` again"


@dataclass(frozen=True)
class Session:
    """A person's login."""

    tenant: str
    refresh_token: str
    key: str
    expires: str
    """Expiry of the key, with its time zone."""

    @property
    def fresh(self) -> bool:
        """Whether the key is valid for some time."""
        left = datetime.fromisoformat(self.expires) - datetime.now(UTC)
        return left.total_seconds() > _EARLY_S


def file(stack: str) -> Path:
    """File of an environment's session."""
    return access.folder(stack) / "login.json"


def log_in(
    client: httpx.Client,
    stack: str,
    tenant: str,
    show: Callable[[str, str], None],
    pause: Callable[[float], None] = time.sleep,
) -> Session:
    """Let a person log in, and keep the session. Raises LocalError.

    `client`: for the gateway's root; `show` gets the address that the person opens, and the code that it shows.
    """
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {"scope": "openid email", "code_challenge": challenge, "code_challenge_method": "S256"}
    started = _ask(client, "auth/device", **asked)
    if "device_code" not in started:
        raise LocalError("the login could not begin", reason=_reason(started), fix="see `forge status`")
    show(started.get("verification_uri_complete", started["verification_uri"]), started["user_code"])
    every, ends = float(started.get("interval", 5)), time.monotonic() + float(started["expires_in"])
    while True:
        pause(every)
        found = _ask(client, "token", grant_type=_GRANT, device_code=started["device_code"], code_verifier=verifier)
        if "access_token" in found:
            with _lock(stack):
                return _keep(client, stack, tenant, found)
        if found.get("error") == "slow_down":
            every += 5  # RFC 8628, section 3.5
        elif found.get("error") != "authorization_pending" or time.monotonic() > ends:
            raise LocalError("the login has failed", reason=_reason(found), fix=_AGAIN)


def key(client: httpx.Client, stack: str) -> str:
    """A valid key of the person who is logged in; empty: nobody is. Raises LocalError if the session has ended."""
    with _lock(stack):
        session = _read(stack)
        if session is None or session.fresh:
            return session.key if session else ""
        found = _ask(client, "token", grant_type="refresh_token", refresh_token=session.refresh_token)
        if "access_token" not in found:
            fix = f"{_AGAIN}, or `forge logout` to use the operator's key"
            raise LocalError("your session has ended", reason=_reason(found), fix=fix)
        # The former refresh token is not valid any more, even if the exchange fails.
        _write(stack, replace(session, refresh_token=found["refresh_token"]))
        return _keep(client, stack, session.tenant, found).key


def log_out(client: httpx.Client, stack: str) -> bool:
    """End the session at Keycloak, and forget it. Returns whether somebody was logged in."""
    with _lock(stack):
        session = _read(stack)
        if session is None:
            return False
        file(stack).unlink()
        _ask(client, "logout", refresh_token=session.refresh_token)
        return True


def _keep(client: httpx.Client, stack: str, tenant: str, tokens: dict[str, Any]) -> Session:
    """Exchange the access token for a key, and keep the session. Raises LocalError if the platform gives no key."""
    try:
        answer = client.post("/v1/login/token", json={"token": tokens["access_token"], "tenant": tenant})
    except httpx.HTTPError as error:
        raise _away(error) from None
    if answer.status_code != 200:
        try:
            reason = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            reason = answer.text[:300]
        raise LocalError("the platform refuses the login", reason=str(reason), fix="ask an owner of the tenant")
    made = answer.json()
    session = Session(made["tenant"], tokens["refresh_token"], made["key"], made["expires"])
    _write(stack, session)
    return session


def _ask(client: httpx.Client, operation: str, **form: str) -> dict[str, Any]:
    """Call Keycloak's OpenID Connect API; an error of the protocol is an answer, too."""
    path = f"/realms/{REALM}/protocol/openid-connect/{operation}"
    try:
        answer = client.post(path, data={"client_id": CLI, **form})
        return dict(answer.json()) if answer.content else {}
    except httpx.HTTPError as error:
        raise _away(error) from None
    except ValueError:
        return {"error": f"HTTP {answer.status_code}"}


def _away(error: Exception) -> LocalError:
    reason = str(error) or type(error).__name__
    return LocalError("the gateway does not answer", reason=reason, fix="see `forge status`")


def _reason(answer: dict[str, Any]) -> str:
    return str(answer.get("error_description") or answer.get("error") or "no reason is given")


def _lock(stack: str) -> FileLock:
    """Two commands must not use a refresh token at once: it is valid once only."""
    paths.private_folder(file(stack).parent)
    return FileLock(file(stack).with_suffix(".lock"), mode=0o600)


def _read(stack: str) -> Session | None:
    try:
        return Session(**json.loads(file(stack).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise LocalError(f"{file(stack)} cannot be read", reason=str(error), fix=f"remove it, and {_AGAIN}") from None


def _write(stack: str, session: Session) -> None:
    paths.write_private(file(stack), json.dumps(asdict(session)))
