"""User over a real PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "user" / "src")]

from kit import migrate  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402
from user.__main__ import UserSettings, create  # noqa: E402

OPERATOR = "cf-the-operators-key-of-this-test"


@pytest.fixture(scope="module")
def settings(postgres_server: Any) -> UserSettings:
    """Settings of a database that the tests of a module share."""
    made = UserSettings(**postgres_server.make_database("user"), installation_key=OPERATOR)
    migrate.migrate("user", made.database(pooled=False))
    return made


@pytest.fixture(scope="module")
def application(settings: UserSettings) -> Iterator[httpx.Client]:
    """A client with the operator's key."""
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        client.headers["authorization"] = f"Bearer {OPERATOR}"
        while client.get("/readyz").status_code != 200:
            pass
        yield client


@pytest.fixture(autouse=True)
def nobody_else(request: pytest.FixtureRequest) -> None:
    """Reset the database before each test that uses it, to the operator's tenant and key."""
    if "settings" not in request.fixturenames:
        return
    with psycopg.connect(request.getfixturevalue("settings").database(pooled=False), autocommit=True) as connection:
        connection.execute("DELETE FROM tenants WHERE id <> 'default'")
        connection.execute("DELETE FROM keys WHERE name <> 'of the installation'")
        connection.execute("TRUNCATE changes, repeats, deleted_tenants")


@pytest.fixture
def user(application: httpx.Client) -> httpx.Client:
    """A client with the operator's key."""
    return application


@pytest.fixture
def acme(user: httpx.Client) -> httpx.Client:
    """A client with a tenant."""
    assert user.post("/v1/tenants", json={"id": "acme", "models": ["m"]}).status_code == 201
    return user
