"""Audit over a real PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "audit" / "src"), str(SOURCES / "audit" / "tests")]

from audit.__main__ import AuditSettings, create  # noqa: E402
from kit import migrate  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402


@pytest.fixture
def settings(service_database: Callable[[str], dict[str, Any]]) -> AuditSettings:
    made = AuditSettings(signing_secret="sign", sealing_secret="seal", **service_database("audit"))
    migrate.migrate("audit", made.database(pooled=False))
    return made


@pytest.fixture
def audit(settings: AuditSettings) -> Iterator[httpx.Client]:
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def write(audit: httpx.Client) -> Callable[..., list[int]]:
    """Write events. Returns their numbers."""

    def put(*events: dict[str, Any]) -> list[int]:
        answer = audit.post("/v1/audit/events", json=list(events))
        assert answer.status_code == 201, answer.text
        return answer.json()["numbers"]

    return put
