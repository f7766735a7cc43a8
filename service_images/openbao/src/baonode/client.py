"""A minimal client of OpenBao's API. It uses only urllib, so that the image needs no other package."""

from __future__ import annotations

import contextlib
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 5.0


class Unreachable(Exception):
    """The server cannot be reached."""


class Refused(Exception):
    """The server has answered with an error."""

    def __init__(self, status: int, path: str, errors: list[str]) -> None:
        super().__init__(f"{path}: {status} {'; '.join(errors)}".rstrip())
        self.status, self.errors = status, errors


class Client:
    """A client of one server, anonymous before `login`. `authority`: CA certificate (PEM) of the server."""

    def __init__(self, address: str, authority: str) -> None:
        self._address, self._token = address, ""
        self._context = ssl.create_default_context(cadata=authority)

    def login(self, role: str, token: str) -> None:
        """Log in as a role with a ServiceAccount token."""
        found = self.ask("POST", "auth/kubernetes/login", {"role": role, "jwt": token})
        self._token = str(found["auth"]["client_token"])

    def logout(self) -> None:
        """Revoke the token of `login`."""
        with contextlib.suppress(Unreachable, Refused):
            self.ask("POST", "auth/token/revoke-self")
        self._token = ""

    def status(self) -> dict[str, Any]:
        """Status of the server: initialized, sealed, standby. It answers with 200 in any state."""
        query = "standbycode=200&perfstandbycode=200&sealedcode=200&uninitcode=200"
        return self.ask("GET", f"sys/health?{query}")

    def read(self, path: str) -> dict[str, Any] | None:
        """Data at a path; None if there is none."""
        try:
            found = self.ask("GET", path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return found.get("data") or {}

    def names(self, path: str) -> list[str]:
        """Names directly below a path."""
        found = self.read(f"{path}?list=true")
        return [str(name) for name in (found or {}).get("keys", [])]

    def write(self, path: str, body: dict[str, Any]) -> None:
        """Create or change the object at a path."""
        self.ask("POST", path, body)

    def remove(self, path: str) -> None:
        """Delete the object at a path."""
        self.ask("DELETE", path)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one request. Raises Unreachable, or Refused with the server's message."""
        request = urllib.request.Request(
            f"{self._address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": self._token} if self._token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._context) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, path, _errors(error.read())) from None
        except OSError as error:
            raise Unreachable(f"{self._address}: {error}") from None
        return json.loads(text) if text else {}


def _errors(text: bytes) -> list[str]:
    try:
        return [str(error) for error in json.loads(text)["errors"]]
    except (ValueError, LookupError, TypeError):
        return []
