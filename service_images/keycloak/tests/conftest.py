"""A Keycloak for all tests here: its start takes minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / name / "src") for name in ("kit", "user", "data-tasks")]

from service_images.keycloak_server import Server, running  # noqa: E402


@pytest.fixture(scope="session")
def server(postgres_server: Any) -> Iterator[Server]:
    with running(postgres_server.make_database("keycloak")) as made:
        yield made
