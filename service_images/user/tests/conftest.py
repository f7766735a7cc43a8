"""User over a real PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "user" / "src")]

from kit import migrate  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402
from user.__main__ import UserSettings, create  # noqa: E402

OPERATOR = "cf-the-operators-key-of-this-test"


@pytest.fixture
def settings(service_database: Callable[[str], dict[str, Any]]) -> UserSettings:
    made = UserSettings(**service_database("user"), installation_key=OPERATOR)
    migrate.migrate("user", made.database(pooled=False))
    return made


@pytest.fixture
def user(settings: UserSettings) -> Iterator[httpx.Client]:
    """As the operator."""
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        client.headers["authorization"] = f"Bearer {OPERATOR}"
        while client.get("/readyz").status_code != 200:
            pass
        yield client


@pytest.fixture
def acme(user: httpx.Client) -> httpx.Client:
    """With a tenant."""
    assert user.post("/v1/tenants", json={"id": "acme", "models": ["m"]}).status_code == 201
    return user
