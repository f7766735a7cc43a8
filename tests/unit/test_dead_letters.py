"""`forge dead-letters`, against a gateway that answers like the services' operations."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli import gateway
from cli.main import app
from local.errors import LocalError

LETTER = {
    "number": 7,
    "topic": "usage.recorded.v1",
    "partition": 2,
    "position": 41,
    "key": "acme",
    "bytes": 12,
    "reason": "ValueError('a text contains the character U+0000')",
    "tries": 1,
    "made": "2026-11-26T14:00:00Z",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requests to the gateway. Billing has one dead letter; Prompt is not deployed."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url.path}")
        error = {"error": {"message": "The dead letter does not exist.", "type": "not_found_error"}}
        if request.url.path.startswith("/v1/prompt/"):
            return httpx.Response(404, json=error)
        if request.url.path.endswith("/dead-letters"):
            letters = [LETTER] if "billing" in request.url.path and request.url.params["after"] == "0" else []
            return httpx.Response(200, json={"dead_letters": letters, "next": 7 if letters else None})
        if "/dead-letters/7" not in request.url.path:
            return httpx.Response(404, json=error)
        return httpx.Response(204) if request.method == "DELETE" else httpx.Response(200, json=LETTER)

    def connect(_: str) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(answer), base_url="https://gateway/v1")

    monkeypatch.setattr(gateway, "connect", connect)
    return seen


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["dead-letters", *arguments], catch_exceptions=True)


def test_all_services_are_listed_page_by_page(asked: list[str]) -> None:
    result = run("list")
    assert result.exit_code == 2
    assert "usage.recorded.v1/2/41" in result.output.replace("\n", "")
    assert "not available" in result.output and "prompt" in result.output
    assert asked.count("GET /v1/billing/dead-letters") == 2


def test_no_dead_letters_is_success(asked: list[str]) -> None:
    result = run("list", "--service", "audit")
    assert (result.exit_code, result.output.strip()) == (0, "There are no dead letters.")


def test_one_is_shown_retried_and_dropped(asked: list[str]) -> None:
    assert json.loads(run("show", "7", "--service", "billing").output)["reason"] == LETTER["reason"]
    assert run("retry", "7", "--service", "billing").exit_code == 0
    assert run("drop", "7", "--service", "billing", "--yes").exit_code == 0
    assert asked[-2:] == ["POST /v1/billing/dead-letters/7/retry", "DELETE /v1/billing/dead-letters/7"]


def test_dropping_asks_for_confirmation(asked: list[str]) -> None:
    result = CliRunner().invoke(app, ["dead-letters", "drop", "7", "--service", "billing"], input="n\n")
    assert (result.exit_code, asked) == (1, [])


def test_refusals_of_the_service_are_printed(asked: list[str]) -> None:
    result = run("retry", "8", "--service", "billing")
    assert isinstance(result.exception, LocalError)
    assert result.exception.reason == "The dead letter does not exist."
