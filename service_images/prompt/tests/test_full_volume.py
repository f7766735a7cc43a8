"""A database with a full volume: a clear error, no acknowledged write is lost, and it recovers with more space."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kit import migrate
from prompt.__main__ import PromptSettings, create
from starlette.testclient import TestClient

from service_images.ports import free_port

SMALL, LARGE = "110m", "400m"
"""Size of the volume. An empty server needs 56 MB."""


@pytest.fixture
def volume() -> Iterator[Path]:
    """A separate file system in memory, accessible to the server's user."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file system of a given size")
    with tempfile.TemporaryDirectory(prefix="cogniforge-volume-") as folder:
        Path(folder).chmod(0o711)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", folder], check=True)
        yield Path(folder)
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def server(volume: Path, postgres_class: Any) -> Iterator[Any]:
    """A server on this volume."""
    made = postgres_class(volume, free_port())
    made.start()
    yield made
    made.kill()


def fill(server: Any) -> None:
    """Fill the volume as another user."""
    with psycopg.connect(server.url("prompt"), autocommit=True) as other:
        other.execute("CREATE TABLE filler (content bytea)")
        with pytest.raises((psycopg.errors.DiskFull, psycopg.OperationalError)):
            while True:
                other.execute("INSERT INTO filler VALUES (%s)", (os.urandom(500_000),))


def test_a_full_volume_is_reported_and_loses_nothing(server: Any, volume: Path) -> None:
    settings = PromptSettings(**server.make_database("prompt"))
    migrate.migrate("prompt", settings.database(pooled=False))
    texts = [os.urandom(2000).hex() for _ in range(21)]
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        for number, text in enumerate(texts[:-1]):
            assert client.post("/v1/prompts", json={"name": f"p{number}", "prompt": text}).status_code == 201
        fill(server)
        refused = [client.post("/v1/prompts", json={"name": f"no{n}", "prompt": "x" * 100_000}) for n in range(20)][-1]
        assert refused.status_code in (503, 507)
        assert refused.json()["error"]["code"] in ("unavailable", "storage_full")
        subprocess.run(["mount", "-o", f"remount,size={LARGE}", str(volume)], check=True)
        # Without space for its log, a server stops itself; Kubernetes and this test start it again.
        if server.process.poll() is not None:
            server.start()
        for number, text in enumerate(texts[:-1]):
            assert client.get(f"/v1/prompts/p{number}", params={"version": 1}).json()["prompt"] == text
        assert client.post("/v1/prompts", json={"name": "after", "prompt": texts[-1]}).status_code == 201
