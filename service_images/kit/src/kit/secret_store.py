"""Client of the secret store: logs in with the pod's ServiceAccount token, and keeps what it reads in memory only."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.settings import ServiceSettings

if TYPE_CHECKING:
    import httpx

AUDIENCE = "secret-store"
"""Audience of the tokens with which pods log in, and name of the token's file."""
_PATIENCE_S = 5.0


class StoreUnavailable(Exception):
    """The store does not answer, is sealed, or cannot do now what is asked. The message says which."""


class StoreRefused(Exception):
    """The store has refused the request: the token or the lease has ended, or the role has no such right."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Token:
    """A login at the store."""

    value: str
    lasts_s: float


class SecretStore:
    """A client for the role of the service's name."""

    def __init__(self, settings: ServiceSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` replaces the network in tests."""
        import httpx  # only services with a store need the memory

        self.url, self.role = settings.store_url, settings.name
        self._file: Path = settings.tokens_folder / AUDIENCE
        trusted = ssl.create_default_context(cafile=str(settings.store_authority)) if settings.store_authority else True
        self._http = httpx.AsyncClient(
            base_url=f"{self.url}/v1/", verify=trusted, trust_env=False, timeout=_PATIENCE_S, transport=transport
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def login(self) -> Token:
        """Log in with the pod's token, which the kubelet renews. Raises StoreUnavailable or StoreRefused."""
        try:
            jwt = self._file.read_text().strip()
        except OSError as error:
            raise StoreUnavailable(f"the pod has no token for the secret store: {error}") from None
        found = (await self.ask("POST", "auth/kubernetes/login", body={"role": self.role, "jwt": jwt}))["auth"]
        return Token(str(found["client_token"]), float(found["lease_duration"]))

    async def renew(self, token: Token) -> float:
        """Renew a login. Returns the seconds that it lasts."""
        return float((await self.ask("POST", "auth/token/renew-self", token, {}))["auth"]["lease_duration"])

    async def end(self, token: Token) -> None:
        """End a login, with all leases that were given to it."""
        await self.ask("POST", "auth/token/revoke-self", token, {})

    async def ask(
        self, method: str, path: str, token: Token | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Answer to one request. Raises StoreUnavailable or StoreRefused."""
        import httpx

        headers = {"X-Vault-Token": token.value} if token else {}
        try:
            answer = await self._http.request(method, path, headers=headers, json=body)
            if answer.is_success:
                return answer.json() if answer.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise StoreUnavailable(f"{self.url} does not answer: {error!r}") from None
        said = f"{path}: {answer.status_code} {answer.text[:300].strip()}"
        # 429: over a limit, or a standby; 5xx: sealed, or the database behind it is away.
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.is_server_error:
            raise StoreUnavailable(said)
        raise StoreRefused(answer.status_code, said)
