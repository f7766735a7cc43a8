"""A real Keycloak on loopback, with a realm of its own."""

from __future__ import annotations

import contextlib
import html
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from service_images import keycloak_server

REALM, CLIENT = "people", "cogniforge"
Person = tuple[str, str, bool]
"""(name, address, whether Keycloak has verified it)."""


@dataclass
class Keycloak:
    """A running Keycloak, in whose realm all users have one password."""

    server: keycloak_server.Server
    secret: str
    """The client's secret."""
    password: str

    @property
    def issuer(self) -> str:
        """Issuer of the realm."""
        return f"{self.server.url}/realms/{REALM}"

    def add(self, person: Person) -> None:
        """Add a user to the realm; a repeat has no effect."""
        self.server.admin("POST", f"/{REALM}/users", _user(person, self.password), (201, 409))

    def log_in(self, address: str, name: str) -> str:
        """Fill in the login form to which the service has redirected a browser. Returns the browser's next address."""
        with httpx.Client(trust_env=False, timeout=30) as browser:
            page = browser.get(address)
            assert page.status_code == 200, page.text
            action = re.search(r'action="([^"]+)"', page.text)
            assert action is not None, page.text
            # The cookies are for HTTPS only; browsers treat loopback as secure.
            cookies = {cookie.name: str(cookie.value) for cookie in browser.cookies.jar}
            header = "; ".join(f"{key}={value}" for key, value in cookies.items())
            form = {"username": name, "password": self.password}
            answer = browser.post(html.unescape(action[1]), data=form, headers={"cookie": header})
            assert answer.status_code == 302, answer.text
            return answer.headers["location"]


def _user(person: Person, password: str) -> dict[str, Any]:
    name, address, verified = person
    credentials = [{"type": "password", "value": password, "temporary": False}]
    names = {"firstName": name, "lastName": "Example"}  # Keycloak requires them at the first login
    return {
        "username": name,
        "email": address,
        "emailVerified": verified,
        "enabled": True,
        "credentials": credentials,
        **names,
    }


def _realm(secret: str, redirect: str) -> dict[str, Any]:
    client = {
        "clientId": CLIENT,
        "secret": secret,
        "redirectUris": [redirect],
        "standardFlowEnabled": True,
        "directAccessGrantsEnabled": False,
        "attributes": {"pkce.code.challenge.method": "S256"},
    }
    addresses = {"loginWithEmailAllowed": False, "duplicateEmailsAllowed": True}
    return {"realm": REALM, "enabled": True, "sslRequired": "none", **addresses, "clients": [client]}


@contextlib.contextmanager
def running(people: Sequence[Person], redirect: str, database: dict[str, Any]) -> Iterator[Keycloak]:
    """A Keycloak whose client may redirect to `redirect`. `database`: settings of its PostgreSQL."""
    with keycloak_server.running(database) as server:
        made = Keycloak(server, secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        server.admin("POST", "", _realm(made.secret, redirect))
        for person in people:
            made.add(person)
        yield made
