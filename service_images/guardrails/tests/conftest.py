"""Fixtures with Guardrails over REST and gRPC."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
for part in ("kit/src", "guardrails/src", "guardrails/tests"):
    sys.path.insert(0, str(SOURCES / part))

from guardrails.__main__ import GuardrailsSettings, create  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402


@pytest.fixture
def guardrails() -> Iterator[httpx.Client]:
    with TestClient(create(GuardrailsSettings(rpc_port=0, host="127.0.0.1")), raise_server_exceptions=False) as client:
        yield client
