"""A client of Keycloak's administration API."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any

import urllib3

from tasks.common import CREDENTIALS, Problem

ADMIN, SECRET = "keycloak-admin", "secret"
_AWAY = (urllib3.exceptions.HTTPError, OSError)
Json = dict[str, Any]


def passwords(login: str) -> str:
    """Secret of a client."""
    return (CREDENTIALS / login / SECRET).read_text().strip()


class Refused(Problem):
    """Keycloak refuses a request."""


class Away(Exception):
    """Keycloak does not answer yet."""


class Keycloak:
    """A client of Keycloak's administration API."""

    PAGE = 200

    def __init__(self, address: str, authority: str, admin: Callable[[], str] = lambda: passwords(ADMIN)) -> None:
        """`authority`: CA certificate (PEM); `admin` returns the secret of the client that administers Keycloak."""
        context = ssl.create_default_context(cadata=authority) if authority else None
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10, read=180), retries=False, ssl_context=context
        )
        self._address, self._admin, self._token = address, admin, ""

    def log_in(self) -> None:
        """Get a token, which is valid for a minute."""
        form = {"grant_type": "client_credentials", "client_id": ADMIN, "client_secret": self._admin()}
        url = f"{self._address}/realms/master/protocol/openid-connect/token"
        try:
            answer = self._pool.request_encode_body("POST", url, fields=form, encode_multipart=False)
        except _AWAY as error:
            raise Away(str(error)) from None
        if answer.status >= 500:
            raise Away(f"status {answer.status}")
        if answer.status != 200:
            raise Problem(
                f"Keycloak does not accept the secret of the client {ADMIN} (status {answer.status}): its database was "
                "made with another one"
            )
        self._token = json.loads(answer.data)["access_token"]

    def get(self, path: str) -> Json | None:
        """What is at a path; None if there is nothing."""
        answer = self._ask("GET", path)
        return None if answer.status == 404 else json.loads(answer.data)

    def all(self, path: str) -> list[Json]:
        """All entries of a list, which Keycloak gives in pages."""
        found: list[Json] = []
        while True:
            join = "&" if "?" in path else "?"
            answer = self._ask("GET", f"{path}{join}first={len(found)}&max={self.PAGE}")
            page = json.loads(answer.data) if answer.status == 200 else []
            found += page
            if len(page) < self.PAGE:
                return found

    def ask(self, path: str, body: Any) -> Json:
        """What Keycloak answers to a request that changes nothing. Raises Refused."""
        return json.loads(self._ask("POST", path, body).data)

    def send(self, method: str, path: str, body: Any = None) -> None:
        """Change something. Raises Problem if Keycloak refuses it."""
        answer = self._ask(method, path, body)
        if answer.status == 404 and method != "DELETE":
            raise Problem(f"{method} {path}: there is no such path")

    def _ask(self, method: str, path: str, body: Any = None) -> urllib3.BaseHTTPResponse:
        for attempt in range(2):
            headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
            sent = json.dumps(body).encode() if body is not None else None
            try:
                answer = self._pool.request(method, f"{self._address}{path}", body=sent, headers=headers)
            except _AWAY as error:
                raise Problem(f"Keycloak does not answer: {error}") from None
            if answer.status != 401 or attempt:
                break
            self.log_in()
        if answer.status >= 400 and answer.status != 404:
            text = answer.data.decode(errors="replace")[:300]
            raise Refused(f"{method} {path}: status {answer.status}: {text}")
        return answer
