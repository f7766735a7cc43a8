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

from local.toolchain import keycloak
from service_images.conftest import free_port
from service_images.serving import served

REALM, CLIENT = "people", "cogniforge"
STARTS_S = 180
Person = tuple[str, str, bool]
"""(name, address, whether Keycloak has verified it)."""


@dataclass
class Keycloak:
    """A running Keycloak, in whose realm all users have one password."""

    url: str
    secret: str
    """The client's secret."""
    password: str
    admin: httpx.Client

    @property
    def issuer(self) -> str:
        """Issuer of the realm."""
        return f"{self.url}/realms/{REALM}"

    def add(self, person: Person) -> None:
        """Add a user to the realm; a repeat has no effect."""
        answer = self.admin.post(f"{self.url}/admin/realms/{REALM}/users", json=_user(person, self.password))
        assert answer.status_code in (201, 409), answer.text

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
def running(people: Sequence[Person], redirect: str) -> Iterator[Keycloak]:
    """A Keycloak whose client may redirect to `redirect`."""
    home, port, password = keycloak.resolve(), free_port(), secrets.token_urlsafe(24)
    command = ["bash", str(home / "bin/kc.sh"), "start", "--optimized", "--http-enabled=true", "--cache=local"]
    command += ["--http-host=127.0.0.1", f"--http-port={port}", "--hostname-strict=false", "--log-level=warn"]
    own = {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": password}
    own |= {"KC_HTTP_MANAGEMENT_PORT": str(free_port()), "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx384m"}
    made = Keycloak(f"http://127.0.0.1:{port}", secrets.token_urlsafe(24), password, httpx.Client(trust_env=False))
    with made.admin, served(command, own, f"{made.url}/realms/master", STARTS_S):
        _log_in_admin(made)
        answer = made.admin.post(f"{made.url}/admin/realms", json=_realm(made.secret, redirect), timeout=60)
        assert answer.status_code == 201, answer.text
        for person in people:
            made.add(person)
        yield made


def _log_in_admin(made: Keycloak) -> None:
    form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": made.password}
    answer = made.admin.post(f"{made.url}/realms/master/protocol/openid-connect/token", data=form, timeout=60)
    assert answer.status_code == 200, answer.text
    made.admin.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
