"""The path of one request: key, gateway, Router, model, usage, invoice line; each step audited, in one trace."""

from __future__ import annotations

import secrets
import subprocess
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from cli import local_environment, stack
from tests.e2e.conftest import FORGE, audit_entries, connected
from tests.waiting import until

pytestmark = pytest.mark.e2e
FORGED = "0af7651916cd43dd8448eb211c80319c"
"""Trace ID of a client."""


@pytest.fixture(scope="module")
def asked() -> tuple[str, str, Any]:
    """An answered request: its ID, its user, and its usage."""
    openai_client = connected(stack.outputs("local"))
    request, user = f"wiring-{secrets.token_hex(8)}", f"user-{secrets.token_hex(4)}"
    answer = openai_client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": f"Hello from {user}"}],
        max_tokens=12,
        user=user,
        # The gateway begins the trace, whatever the client sends.
        extra_headers={"x-request-id": request, "traceparent": f"00-{FORGED}-{secrets.token_hex(8)}-01"},
    )
    return request, user, answer.usage


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens"])
def test_the_usage_of_an_answer_is_metered(operator: httpx.Client, asked: tuple[str, str, Any], field: str) -> None:
    _, user, usage = asked
    span = {"begin": "2026-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
    query = {"tenant": "default", "aggregation": "SUM", "field": field, "group": "user", **span}

    def metered() -> float | None:
        values = operator.get("/v1/billing/meters", params=query).raise_for_status().json()["values"]
        return next((v["value"] for v in values if v["group"] == user), None)

    took = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    assert until(metered, 60) == took[field]


def test_usage_is_a_line_of_the_invoice(operator: httpx.Client, asked: tuple[str, str, Any]) -> None:
    price = {"model": "demo", "kind": "input", "usd": "3", "begins": "2026-01-01T00:00:00Z"}
    assert operator.post("/v1/billing/prices", json=price).status_code in (201, 409)
    path = f"/v1/billing/tenants/default/invoices/{datetime.now(UTC):%Y-%m}"

    def line() -> Any:
        lines = operator.get(path).raise_for_status().json()["lines"]
        return next((entry for entry in lines if entry["model"] == "demo" and entry["kind"] == "input"), None)

    found = until(line, 30)
    assert found["quantity"] >= asked[2].prompt_tokens
    assert found["unit_usd"] == "3"


def test_the_request_is_in_the_audit_log_under_its_id(operator: httpx.Client, asked: tuple[str, str, Any]) -> None:
    request, user, _ = asked

    def entry() -> Any:
        entries = audit_entries(operator, "default")
        return next((e for e in entries if e.get("subject") == f"request/{request}"), None)

    found = until(entry, 60)
    assert found["type"] == "dev.cogniforge.usage.recorded.v1"
    assert found["data"]["user"] == user
    assert found["trace"] and FORGED not in found["trace"]


def test_a_copy_of_the_log_is_verified_offline(asked: tuple[str, str, Any]) -> None:
    """Run the command of the documentation's page about data."""

    def audit(*arguments: str, stdin: str = "") -> str:
        command = [str(FORGE), "kubectl", "-n", "cogniforge", "exec", "-i", "deployment/audit", "--", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, input=stdin)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    audit("rm", "-rf", "/tmp/log")
    key = local_environment.key_file().read_text()
    audit("python3", "-m", "audit", "download", "http://127.0.0.1:8080/v1/audit", "/tmp/log", stdin=key)
    assert "entries are unchanged" in audit("python3", "-m", "audit", "verify", "/tmp/log", "/tmp/log.key")
