"""One request on its way: key, gateway, router, model, usage, invoice line; each step in the audit log, one trace."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from cli import stack
from tests.e2e.conftest import connected
from tests.e2e.data_client import DataClient

pytestmark = pytest.mark.e2e
ASK = """
import httpx
http = httpx.Client(trust_env=False, timeout=10)
def get(service, path, **query):
    return http.get(f"http://{service}:8080{path}", params=query).raise_for_status().json()
"""


@pytest.fixture(scope="module")
def asked() -> tuple[str, str, Any]:
    """A question that was answered: its trace, the user that it names, and what it took."""
    openai_client = connected(stack.outputs("local"))
    trace, user = secrets.token_hex(16), f"user-{secrets.token_hex(4)}"
    answer = openai_client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": f"Hello from {user}"}],
        max_tokens=12,
        user=user,
        extra_headers={"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"},
    )
    return trace, user, answer.usage


def test_what_an_answer_took_is_metered(data: DataClient, asked: tuple[str, str, Any]) -> None:
    _, user, usage = asked
    script = """
def metered():
    found = get("billing", "/v1/meters", tenant="default", aggregation="SUM", field=field, group="user",
                begin="2026-01-01T00:00:00Z", end="2100-01-01T00:00:00Z")["values"]
    return next((v["value"] for v in found if v["group"] == user), None)
print(json.dumps(until(metered, 60)))
"""
    assert data.run(ASK + script, field="input_tokens", user=user) == usage.prompt_tokens
    assert data.run(ASK + script, field="output_tokens", user=user) == usage.completion_tokens


def test_usage_is_a_line_of_the_invoice(data: DataClient, asked: tuple[str, str, Any]) -> None:
    found = data.run(
        ASK
        + """
from datetime import datetime, timezone
month = datetime.now(timezone.utc).strftime("%Y-%m")
price = {"model": "demo", "kind": "input", "usd": "3", "begins": "2026-01-01T00:00:00Z"}
assert http.post("http://billing:8080/v1/prices", json=price).status_code in (201, 409)
def line():
    bill = get("billing", f"/v1/tenants/default/invoices/{month}")
    return next((l for l in bill["lines"] if l["model"] == "demo" and l["kind"] == "input"), None)
print(json.dumps(until(line, 30)))
"""
    )
    assert found["quantity"] >= asked[2].prompt_tokens
    assert found["unit_usd"] == "3"


def test_the_request_is_in_the_audit_log_under_its_trace(data: DataClient, asked: tuple[str, str, Any]) -> None:
    trace, user, _ = asked
    entry = data.run(
        ASK
        + """
def entry():
    after = -1
    while after is not None:
        page = get("audit", "/v1/events", tenant="default", after=after, limit=1000)
        for e in page["entries"]:
            if trace in e["trace"]: return e
        after = page["next"]
print(json.dumps(until(entry, 60)))
""",
        trace=trace,
    )
    assert entry["type"] == "dev.cogniforge.usage.recorded.v1"
    assert entry["data"]["user"] == user


def test_a_copy_of_the_log_is_verified_offline(data: DataClient, asked: tuple[str, str, Any]) -> None:
    script = (
        "rm -rf /tmp/log && python3 -m audit download http://127.0.0.1:8080 /tmp/log && "
        "python3 -c 'import urllib.request as u; "
        'print(u.urlopen("http://127.0.0.1:8080/key").read().decode())\' > /tmp/log.key && '
        "python3 -m audit verify /tmp/log /tmp/log.key"
    )
    result = data.kubectl("exec", "deployment/audit", "--", "sh", "-c", script)
    assert "entries are as they were written" in result.stdout, result.stdout + result.stderr
