"""A real Keycloak on loopback, with the platform's settings and a PostgreSQL database."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from components.security.keycloak import ADMIN, KeycloakInputs, settings
from local.toolchain import keycloak
from service_images.ports import free_port
from service_images.serving import served

STARTS_S = 1000
"""The first start makes the tables; on a busy machine with two cores, it takes minutes."""


@dataclass
class Server:
    """A running Keycloak."""

    url: str
    """Where it answers, and the beginning of its issuers."""
    secret: str
    """Of the client that administers it."""
    vault: Path
    """Folder with the client secrets at other identity providers, each in a file `<realm>_<name of the provider>`."""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=60))

    def admin(self, method: str, path: str, body: Any = None, expected: tuple[int, ...] = (200, 201, 204)) -> Any:
        """Call the administration API below /admin/realms. Returns the answer's content."""
        form = {"grant_type": "client_credentials", "client_id": ADMIN, "client_secret": self.secret}
        token = self.http.post(f"{self.url}/realms/master/protocol/openid-connect/token", data=form)
        assert token.status_code == 200, token.text
        headers = {"authorization": f"Bearer {token.json()['access_token']}"}
        answer = self.http.request(method, f"{self.url}/admin/realms{path}", json=body, headers=headers)
        assert answer.status_code in expected, (answer.status_code, answer.text)
        return (
            answer.json() if answer.content and answer.headers["content-type"].startswith("application/json") else None
        )


def _file(database: dict[str, Any], port: int, management: int, secret: str, vault: Path) -> str:
    """The settings of a pod, with loopback's addresses and without TLS."""
    inputs = KeycloakInputs(namespace="x", image="x", postgres_host="x", url="https://x")
    lines = dict(line.split("=", 1) for line in settings(inputs, "127.0.0.1", "none", secret).splitlines())
    for name in [name for name in lines if name.startswith("https-")]:
        del lines[name]
    lines |= {
        "db-url": f"jdbc:postgresql://127.0.0.1:{database['postgres_port']}/keycloak",
        "hostname": f"http://127.0.0.1:{port}",
        "http-host": "127.0.0.1",
        "http-port": str(port),
        "http-management-port": str(management),
        "vault-dir": str(vault),
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


@contextlib.contextmanager
def running(database: dict[str, Any]) -> Iterator[Server]:
    """A Keycloak whose database is "keycloak" at the PostgreSQL server with these settings."""
    home, port, management, secret = keycloak.resolve(), free_port(), free_port(), secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="cogniforge-keycloak-") as folder:
        file = Path(folder) / "keycloak.conf"
        vault = Path(folder) / "vault"
        vault.mkdir()
        file.write_text(_file(database, port, management, secret, vault))
        command = ["sh", str(keycloak.RUN), str(file)]
        own = {"KEYCLOAK_HOME": str(home), "HEAP_PERCENT": "2"}
        with served(command, own, f"http://127.0.0.1:{management}/health/ready", STARTS_S, 60):
            made = Server(f"http://127.0.0.1:{port}", secret, vault)
            with made.http:
                yield made
