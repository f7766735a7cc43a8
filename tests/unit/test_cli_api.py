"""`forge env`, `tenant`, `key` and `usage`, against a gateway that answers according to the services' documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli import api_text, stack
from cli.options import Format
from tests.unit.api_double import KEY, Gateway, running
from tests.unit.test_cli_output import Run, golden, run

__all__ = ["run"]
TENANT = {"id": "acme", "name": "Acme [red]", "models": ["demo"], "requests_per_minute": 600, "tokens_per_minute": 0}
TENANT |= {"created": "2026-11-26T14:00:00Z"}
OTHER = {**TENANT, "id": "zeta", "name": "", "models": [], "requests_per_minute": 0, "tokens_per_minute": 100000}
API_KEY = {"id": "k1", "tenant": "acme", "name": "their service", "user": "", "hint": "cf-a1...9z", "expires": None}
API_KEY |= {"scopes": ["inference", "billing"], "created": "2026-11-26T14:00:00Z", "revoked": None}
MADE = {**API_KEY, "key": "cf-" + "0123456789" * 6}
INVOICE = {"tenant": "acme", "period": "2026-11", "currency": "USD", "gross_usd": "12.50", "credit_usd": "10.00"}
INVOICE |= {"total_cents": 250, "unpriced_models": [], "unpriced": [{"model": "new", "kind": "input"}]}
INVOICE |= {"lines": [{"model": "demo", "kind": "input", "quantity": 25000000, "usd": "12.50"}]}
PRICE = {"tenant": "", "model": "*", "kind": "input", "usd": "0.50", "per": 1000000, "begins": "2026-02-01T00:00:00Z"}
LEFT = {"budget_usd": "250", "spent_usd": "12.50", "left_usd": "237.50", "in_force": True, "replicas": None}
DELETION = {"tenant": "acme", "deleted": "2026-11-26T14:00:00Z", "waiting": ["audit"], "erased": {}}


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "home"))
    with running(tmp_path) as found:
        outputs = {"url": found.url, "apiKey": KEY, "authority": found.authority}
        monkeypatch.setattr(stack, "outputs", lambda _: outputs)
        yield found


def environment(**more: str) -> dict[str, str]:
    """Remove variables that redirect clients."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}


def test_env_shows_where_the_environment_is(run: Run, gateway: Gateway, tmp_path: Path) -> None:
    status, out, err = run("env")
    home = tmp_path / "home"
    golden("env.txt", (status, out.replace(gateway.url, "<url>").replace(str(home), "<state>"), err))
    assert (home / "api-key").read_text() == KEY
    assert {oct((home / name).stat().st_mode)[-3:] for name in ("api-key", "ca.pem", "ca-bundle.pem")} == {"600"}
    status, out, _ = run("env", "-s", "dev", "-o", "json")
    shown = out.replace(gateway.url, "https://gateway/v1").replace(str(home), "/state")
    golden("env.json", (status, shown, ""))
    assert json.loads(out)["authorityFile"] == str(home / "access/dev/ca.pem"), "environments do not share files"


def test_the_variables_lead_clients_to_the_environment(run: Run, gateway: Gateway, tmp_path: Path) -> None:
    script = run("env", "--export")[1]
    program = "from openai import OpenAI; from anthropic import Anthropic\n"
    program += "m = [{'role': 'user', 'content': 'Hello'}]\n"
    program += "print(OpenAI().chat.completions.create(model='demo', messages=m).choices[0].message.content)\n"
    program += "print(Anthropic().messages.create(model='demo', max_tokens=9, messages=m).content[0].text)\n"
    (tmp_path / "program.py").write_text(program)
    command = ["sh", "-c", f'{script}\nexec "{sys.executable}" "{tmp_path}/program.py"']
    result = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert result.stdout == "Hi!\nHi!\n", result.stderr


@pytest.mark.parametrize("client", ["openai", "anthropic", "curl"])
def test_the_set_up_of_a_client_works_as_it_is_printed(run: Run, gateway: Gateway, client: str, tmp_path: Path) -> None:
    status, printed, err = run("env", "--client", client)
    shown = printed.replace(gateway.url.removesuffix("/v1"), "<url>").replace(str(tmp_path), "<folder>")
    golden(f"env-{client}.txt", (status, shown, err), wide=True)
    assert KEY not in printed, "the key is in its file, not in programs or the shell's history"
    (tmp_path / "printed").write_text(printed)
    command = ["sh" if client == "curl" else sys.executable, str(tmp_path / "printed")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert "Hi!" in result.stdout, result.stderr


def test_an_environment_that_is_not_running_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "outputs", lambda _: {})
    golden("env-not-up.txt", run("env"), 1)


def _answers(gateway: Gateway) -> None:
    gateway.say("GET /v1/tenants", [TENANT, OTHER])
    gateway.say("GET /v1/tenants/acme", TENANT)
    gateway.say("POST /v1/tenants", TENANT, 201)
    gateway.say("PUT /v1/tenants/acme", TENANT)
    gateway.say("DELETE /v1/tenants/acme", None, 204)
    gateway.say("GET /v1/tenants/acme/deletion", DELETION)
    gateway.say("GET /v1/tenants/acme/keys", [API_KEY])
    gateway.say("POST /v1/tenants/acme/keys", MADE, 201)
    gateway.say("DELETE /v1/tenants/acme/keys/k1", None, 204)
    gateway.say("GET /v1/billing/tenants/acme/entitlement", LEFT)
    gateway.say("PUT /v1/billing/tenants/acme/budget", {"usd": "250"})
    gateway.say("POST /v1/billing/tenants/acme/credits", {"id": "welcome", "usd": "10", "period": "2026-11"}, 201)
    gateway.say("GET /v1/billing/tenants/acme/invoices/2026-11", INVOICE)
    gateway.say("GET /v1/billing/prices", [PRICE])
    gateway.say("POST /v1/billing/prices", PRICE, 201)
    values = [{"group": "acme", "value": 42.0}, {"group": "zeta", "value": None}]
    gateway.say("GET /v1/billing/meters", {"values": values})


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tenant-list", ["tenant", "list"]),
        ("tenant-show", ["tenant", "show", "acme"]),
        ("tenant-create", ["tenant", "create", "acme", "--model", "demo", "--requests-per-minute", "600"]),
        ("tenant-update", ["tenant", "update", "acme", "--name", "Acme"]),
        ("tenant-delete", ["tenant", "delete", "acme", "--yes"]),
        ("tenant-deletion", ["tenant", "deletion", "acme"]),
        ("key-list", ["key", "list", "acme"]),
        ("key-create", ["key", "create", "acme", "their service", "--scope", "inference", "--scope", "billing"]),
        ("key-revoke", ["key", "revoke", "acme", "k1", "--yes", "--keep-made"]),
        ("usage-show", ["usage", "show"]),
        ("usage-left", ["usage", "left", "acme"]),
        ("usage-budget", ["usage", "budget", "acme", "250"]),
        ("usage-credit", ["usage", "credit", "acme", "welcome", "10", "--period", "2026-11"]),
        ("usage-invoice", ["usage", "invoice", "acme", "2026-11"]),
        ("usage-prices", ["usage", "prices"]),
        ("usage-price", ["usage", "price", "*", "input", "0.50", "--begins", "2026-02-01T00:00:00Z"]),
    ],
)
def test_each_command_calls_a_documented_operation(run: Run, gateway: Gateway, name: str, arguments: list[str]) -> None:
    _answers(gateway)
    golden(f"{name}.txt", run(*arguments))


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["tenant", "list"], [TENANT, OTHER]),
        (["tenant", "show", "acme"], TENANT),
        (["key", "create", "acme", "x"], MADE),
        (["key", "list", "acme"], [API_KEY]),
        (["usage", "invoice", "acme", "2026-11"], INVOICE),
        (["usage", "prices"], [PRICE]),
        (["usage", "left", "acme"], LEFT),
    ],
)
def test_json_is_what_the_service_answers(run: Run, gateway: Gateway, arguments: list[str], answer: Any) -> None:
    _answers(gateway)
    assert json.loads(run(*arguments, "-o", "json")[1]) == answer


def test_absent_fields_stay_unchanged(run: Run, gateway: Gateway) -> None:
    _answers(gateway)
    assert run("tenant", "update", "acme", "--tokens-per-minute", "5")[0] == 0
    kept = {name: value for name, value in TENANT.items() if name not in ("id", "created")}
    assert gateway.asked[-1] == ("PUT /v1/tenants/acme", {**kept, "tokens_per_minute": 5})


def test_a_policy_is_set_and_shown(run: Run, gateway: Gateway, tmp_path: Path) -> None:
    policy = {"packs": ["gdpr"], "rules": [{"detect": "prompt_injection", "action": "block"}]}
    answer = {"policy": policy, "in_force": True, "problems": []}
    gateway.say("PUT /v1/tenants/acme/policy", answer)
    gateway.say("GET /v1/tenants/acme/policy", answer)
    (tmp_path / "policy.yaml").write_text("packs: [gdpr]\nrules: [{detect: prompt_injection, action: block}]\n")
    assert run("tenant", "policy", "acme", "--set", str(tmp_path / "policy.yaml"))[0] == 0
    assert gateway.asked[-1] == ("PUT /v1/tenants/acme/policy", {"policy": policy})
    golden("tenant-policy.json", run("tenant", "policy", "acme"))


@pytest.mark.parametrize("arguments", [["tenant", "delete", "acme"], ["key", "revoke", "acme", "k1"]])
def test_irreversible_actions_ask_for_confirmation(run: Run, gateway: Gateway, arguments: list[str]) -> None:
    assert run(*arguments, answer="n\n")[0] == 1
    assert gateway.asked == []


def test_an_id_cannot_lead_to_another_operation(run: Run, gateway: Gateway) -> None:
    run("tenant", "show", "acme/keys")
    assert gateway.asked == [("GET /v1/tenants/acme%2Fkeys", None)]


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("refused", 409, {"error": {"message": "A tenant with this id already exists.", "type": "conflict"}}),
        ("not-json", 502, b"<html>Bad gateway</html>"),
        ("odd-error", 500, {"error": "odd"}),
    ],
)
def test_an_error_is_printed_without_a_traceback(run: Run, gateway: Gateway, name: str, status: int, body: Any) -> None:
    gateway.say("POST /v1/tenants", body, status)
    golden(f"api-{name}.txt", run("tenant", "create", "acme"), 1)


def test_a_gateway_that_does_not_answer_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, gateway: Gateway) -> None:
    outputs = {"url": "https://127.0.0.1:9/v1", "apiKey": KEY, "authority": gateway.authority}
    monkeypatch.setattr(stack, "outputs", lambda _: outputs)
    golden("api-no-gateway.txt", run("tenant", "list"), 1)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1), _JSON, min_size=1))
def test_answers_of_services_are_printed_as_plain_text(
    capsys: pytest.CaptureFixture[str], found: dict[str, Any]
) -> None:
    api_text.record(found, Format.TEXT)
    written = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in written)
