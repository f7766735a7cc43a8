"""Prompt over a real PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "prompt" / "src")]

from kit import migrate  # noqa: E402
from prompt.__main__ import PromptSettings, create  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402


@pytest.fixture
def settings(service_database: Callable[[str], dict[str, Any]]) -> PromptSettings:
    made = PromptSettings(**service_database("prompt"))
    migrate.migrate("prompt", made.database(pooled=False))
    return made


@pytest.fixture
def prompts(settings: PromptSettings) -> Iterator[httpx.Client]:
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        yield client
