"""Prompt over a real PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "prompt" / "src")]

from kit import migrate  # noqa: E402
from prompt.__main__ import PromptSettings, create  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402


@pytest.fixture(scope="module")
def settings(postgres_server: Any) -> PromptSettings:
    """Settings of a database that the tests of a module share."""
    made = PromptSettings(**postgres_server.make_database("prompt"))
    migrate.migrate("prompt", made.database(pooled=False))
    return made


@pytest.fixture(scope="module")
def application(settings: PromptSettings) -> Iterator[httpx.Client]:
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def no_prompts(request: pytest.FixtureRequest) -> None:
    """Delete all prompts before each test that uses the database."""
    if "settings" in request.fixturenames:
        url = request.getfixturevalue("settings").database(pooled=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("TRUNCATE prompts, changes, repeats CASCADE")


@pytest.fixture
def prompts(application: httpx.Client) -> httpx.Client:
    return application
