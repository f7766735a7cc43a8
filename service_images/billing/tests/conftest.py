"""Billing over a real PostgreSQL."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "billing" / "src"), str(SOURCES / "billing" / "tests")]

from billing.__main__ import BillingSettings, create  # noqa: E402
from kit import migrate  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402


@pytest.fixture
def settings(service_database: Callable[[str], dict[str, Any]]) -> BillingSettings:
    made = BillingSettings(**service_database("billing"))
    migrate.migrate("billing", made.database(pooled=False))
    return made


@pytest.fixture
def billing(settings: BillingSettings) -> Iterator[httpx.Client]:
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def priced(billing: httpx.Client) -> httpx.Client:
    """Billing with a price for input and output of every model: 2 and 8 USD per million tokens."""
    for kind, usd in (("input", "2"), ("output", "8")):
        price = {"model": "*", "kind": kind, "usd": usd, "begins": "2026-01-01T00:00:00Z"}
        answer = billing.post("/v1/billing/prices", json=price)
        assert answer.status_code == 201, answer.text
    return billing
