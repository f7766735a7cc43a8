"""Accounts of people in an environment's Keycloak, through its administration API.

The API is reached through the cluster, since the gateway forwards no path of it.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from cli import cluster, forwarding, jobs, stack
from components.config.security import REALM
from components.security.keycloak import ADMIN, HTTPS_PORT, PART, SECRET
from local.errors import LocalError

_PASSWORD_LENGTH = 20
_ANSWER_S, _PAGE = 60, 200
_FIX = "see `forge status`"


@dataclass(frozen=True)
class Account:
    """A person at Keycloak."""

    id: str
    email: str
    enabled: bool
    second_factor: bool
    """Whether a login asks for a second factor, too."""
    groups: tuple[str, ...] = ()
    """Paths, such as "/tenants/acme/editor"."""


class Accounts:
    """All accounts of a realm. Every method raises LocalError if Keycloak refuses it or does not answer."""

    def __init__(self, client: httpx.Client, secret: str, password_length: int = 0) -> None:
        """`client`: for Keycloak's root; `secret`: of the client that administers it; `password_length`: the least."""
        self._client, self._realm = client, f"/admin/realms/{REALM}"
        self._length = max(_PASSWORD_LENGTH, password_length)
        form = {"grant_type": "client_credentials", "client_id": ADMIN, "client_secret": secret}
        answer = self._ask("POST", "/realms/master/protocol/openid-connect/token", data=form)
        client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"

    def all(self) -> list[Account]:
        """All accounts with an address, by address."""
        found: list[Account] = []
        first = 0
        while True:
            page = self._ask("GET", f"{self._realm}/users", params={"first": first, "max": _PAGE}).json()
            found += [self._account(one, groups=True) for one in page if one.get("email")]
            first += _PAGE
            if len(page) < _PAGE:
                return sorted(found, key=lambda one: one.email)

    def find(self, email: str) -> Account | None:
        """The account with an address."""
        page = self._ask("GET", f"{self._realm}/users", params={"email": email.lower(), "exact": "true"}).json()
        return self._account(page[0]) if page else None

    def make(self, email: str) -> str:
        """Make an account. Returns its one-time password; at the first login, the person chooses another one.

        The address counts as verified: the operator vouches for it.
        """
        password = self._password()
        body = {
            "username": email.lower(),
            "email": email.lower(),
            "emailVerified": True,
            "enabled": True,
            "credentials": [{"type": "password", "value": password, "temporary": True}],
        }
        self._ask("POST", f"{self._realm}/users", json=body)
        return password

    def renew(self, account: Account) -> str:
        """Replace a password with a one-time password, which is returned. Sessions end, failed logins are forgotten."""
        password, path = self._password(), f"{self._realm}/users/{account.id}"
        body = {"type": "password", "value": password, "temporary": True}
        self._ask("PUT", f"{path}/reset-password", json=body)
        self._ask("POST", f"{path}/logout")
        self._ask("DELETE", f"{self._realm}/attack-detection/brute-force/users/{account.id}")
        return password

    def forget_second_factor(self, account: Account) -> None:
        """Remove a person's second factors. The next login sets up another one."""
        path = f"{self._realm}/users/{account.id}"
        # First what is asked, so that no login without a second factor fits between.
        asked = self._ask("GET", path).json().get("requiredActions", [])
        self._ask("PUT", path, json={"requiredActions": sorted({*asked, "CONFIGURE_TOTP"})})
        for one in self._ask("GET", f"{path}/credentials").json():
            if one["type"] != "password":
                self._ask("DELETE", f"{path}/credentials/{one['id']}")

    def remove(self, account: Account) -> None:
        """Remove an account with its sessions."""
        self._ask("DELETE", f"{self._realm}/users/{account.id}")

    def _account(self, one: dict[str, Any], *, groups: bool = False) -> Account:
        found = self._ask("GET", f"{self._realm}/users/{one['id']}/groups").json() if groups else ()
        paths = tuple(sorted(group["path"] for group in found))
        return Account(one["id"], one["email"], bool(one.get("enabled")), bool(one.get("totp")), paths)

    def _password(self) -> str:
        return secrets.token_urlsafe(self._length)[: self._length]

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise LocalError("Keycloak does not answer", reason=reason, fix=_FIX) from None
        if answer.is_success:
            return answer
        try:
            found = answer.json()
            reason = str(found.get("errorMessage") or found.get("error_description") or found["error"])
        except (ValueError, KeyError, AttributeError):
            reason = answer.text[:300]
        raise LocalError(f"Keycloak refuses {method} {path}: HTTP {answer.status_code}", reason=reason, fix=_FIX)


@contextlib.contextmanager
def opened(name: str) -> Iterator[Accounts]:
    """The accounts of an environment. Raises LocalError if it has no Keycloak, or if that cannot be reached."""
    config = stack.read_config(name)
    if config.security.keycloak is None:
        fix = "add security.keycloak, or make the account at the provider of services.user.login"
        raise LocalError(f"{name} has no Keycloak", fix=fix)
    base, namespace = cluster.kubectl(cluster.is_local(config), config.cluster.context), config.cluster.namespace
    entry = functools.partial(jobs.secret, [*base, "--namespace", namespace], "accounts")
    # The certificate is for the Service, not for the port of this machine.
    context = ssl.create_default_context(cadata=entry(f"{PART}-tls", "ca.crt"))
    host = {"sni_hostname": f"{PART}.{namespace}.svc"}
    secret = entry(f"login-{ADMIN}", SECRET)
    with (
        forwarding.forwarded(base, namespace, PART, HTTPS_PORT) as number,
        httpx.Client(
            base_url=f"https://127.0.0.1:{number}",
            verify=context,
            trust_env=False,
            timeout=_ANSWER_S,
            event_hooks={"request": [lambda request: request.extensions.update(host)]},
        ) as client,
    ):
        yield Accounts(client, secret, config.security.keycloak.passwords.length)
