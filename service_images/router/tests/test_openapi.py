"""The OpenAPI document is current and correct: answers to any request match it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from router import openapi  # noqa: E402

from .conftest import Running, Target  # noqa: E402

CHECKS = (not_a_server_error, status_code_conformance, response_schema_conformance)


def _asking_for_known_models() -> dict[str, Any]:
    """The document with two valid names, since requests with random names would only be answered with 404."""
    document = openapi.document()
    for path in document["paths"].values():
        body = (
            path.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        )
        if "model" in body.get("properties", {}):
            body["properties"]["model"] = {"enum": ["m", "nobody"]}
    return document


SCHEMA = schemathesis.openapi.from_dict(_asking_for_known_models())


@pytest.fixture(scope="module")
def router() -> Iterator[Running]:
    target = Target("a")
    running = Running({"routes": [{"model": "m", "upstream": target.url, "timeout_seconds": 5}]})
    yield running
    running.stop()
    target.stop()


def test_the_published_document_is_current() -> None:
    published = json.loads((SOURCES / "router" / "openapi.json").read_text())
    assert published == openapi.document(), "run `make schema`"


def test_the_document_is_served(router: Running) -> None:
    assert httpx.get(f"{router.url}/openapi.json", trust_env=False).json() == openapi.document()


@SCHEMA.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_of_those_described(case: schemathesis.Case, router: Running) -> None:
    case.call_and_validate(base_url=router.url, checks=CHECKS, timeout=20)
