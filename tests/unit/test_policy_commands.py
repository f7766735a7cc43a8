"""`forge policy`, and the layer of `forge prove` that compares the policies' decisions with the documents."""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any

import pytest

from cli import policy, stack
from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.security import policy_bundle
from local.errors import LocalError
from policies.access import opa
from policies.access.model import compare
from policies.access.objects import Object, Rendered
from tests import opa_server
from tests.opa_server import configuration
from tests.unit.test_cli_output import Run, golden, run
from tests.unit.test_platform import stack_file

__all__ = ["run"]
DENIES_ALL = 'package own\n\ndeny contains "Closed." if input.path[1] == "tenants"\n'


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = [{"days": ["monday"], "begin": "08:00", "end": "18:00"}]
    config = configuration({"tenants": {"acme": {"hours": hours}}})
    monkeypatch.setattr(stack, "read_config", lambda _: config)


@pytest.mark.parametrize(
    ("name", "arguments", "refused"),
    [
        ("allowed", ["GET /v1/tenants", "--scope", "admin"], False),
        ("missing-scope", ["GET /v1/tenants?page=2", "--scope", "manage", "--scope", "billing"], True),
        ("no-key", ["POST /v1/chat/completions", "--no-key"], True),
        ("unknown", ["DELETE /v1/self"], True),
        ("hours", ["GET /v1/self", "--tenant", "acme", "--at", "2026-11-27T10:00"], True),
        (
            "break-glass",
            ["GET /v1/self", "--tenant=acme", "--scope=admin", "--at=2026-11-27T10:00Z", "--break-glass=incident 12"],
            False,
        ),
    ],
)
def test_a_decision_is_explained(run: Run, environment: None, name: str, arguments: list[str], refused: bool) -> None:
    golden(f"policy-explain-{name}.txt", run("policy", "explain", *arguments), int(refused))


@pytest.mark.parametrize("words", ["GET", "/v1/self", "GET v1/self"])
def test_other_words_than_a_request_are_refused(words: str) -> None:
    with pytest.raises(LocalError, match="is not a request"):
        policy.question(words, [], key=True)


def test_other_words_than_a_time_are_refused() -> None:
    with pytest.raises(LocalError, match="is not a time"):
        policy.moment("noon")


def test_the_tests_of_the_policies_run(run: Run, environment: None) -> None:
    golden("policy-test.txt", run("policy", "test"))


def test_an_environment_without_policies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "read_config", lambda _: parse(stack_file("local") | {"security": {}}))
    with pytest.raises(LocalError, match="local has no policies"):
        policy.test("local")


def _with_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> PlatformConfig:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "own.rego").write_text(text)
    monkeypatch.setattr(policy.sources, "project", lambda: tmp_path)
    return configuration({"rules": "rules"})


def test_rules_that_lock_out_operators_are_refused_with_the_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _with_rules(tmp_path, monkeypatch, DENIES_ALL)
    with pytest.raises(LocalError, match="lock out its operators") as raised:
        policy.refuse_lock_out("local", config)
    assert "GET /v1/tenants (own_rule: Closed.)" in raised.value.reason


def test_rules_that_except_operators_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DENIES_ALL.replace(' if input.path[1] == "tenants"', ' if not "admin" in input.caller.scopes')
    policy.refuse_lock_out("local", _with_rules(tmp_path, monkeypatch, text))


def test_rules_that_do_not_compile_are_named_with_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _with_rules(tmp_path, monkeypatch, "package own\n\ndeny contains x if true\n")
    with pytest.raises(LocalError) as raised:
        policy.refuse_lock_out("local", config)
    assert "own.rego:3" in raised.value.reason


@functools.cache
def _config() -> PlatformConfig:
    return configuration()


def _rendered(data: dict[str, Any], extra: bytes = b"") -> Rendered:
    """The one object that the layer reads."""
    files = policy_bundle.contents(data, {})
    files["policies/gateway.rego"] += extra
    text = base64.b64encode(policy_bundle.archive(files)).decode()
    inputs = {"metadata": {"name": "opa", "namespace": "cogniforge"}, "binaryData": {policy_bundle.FILE: text}}
    return Rendered([Object("kubernetes:core/v1:ConfigMap", "local-opa-bundle", {"kind": "ConfigMap", **inputs})])


def test_the_policies_allow_exactly_what_the_documents_ask_for() -> None:
    granted, holes = compare(opa.LAYER, _config(), _rendered(opa_server.installation(_config())))
    assert [str(one) for one in holes] == []
    assert len(granted) > 300


def test_holes_in_the_policies_are_named() -> None:
    data = opa_server.installation(_config())
    data["exact"]["GET"]["/v1/tenants"] = {"service": "user", "scopes": ["manage"]}
    data["exact"]["POST"].pop("/v1/embeddings")
    _, holes = compare(opa.LAYER, _config(), _rendered(data))
    named = [str(one) for one in holes]
    assert len(named) == 4, named
    assert any(line.startswith("policy: a key with manage can GET /v1/tenants: ConfigMap") for line in named)
    assert any(
        line.startswith("policy: a key with inference cannot POST /v1/embeddings: document of") for line in named
    )
    assert {one.access.target for one in holes} == {"/v1/tenants", "/v1/embeddings"}


def test_a_hole_in_the_rules_themselves_is_named() -> None:
    hole = b'\noperator if "billing" in caller.scopes\n'
    _, holes = compare(opa.LAYER, _config(), _rendered(opa_server.installation(_config()), hole))
    assert holes
    assert {one.access.who for one in holes} == {"a key with billing"}


def test_without_opa_the_layer_is_empty() -> None:
    assert compare(opa.LAYER, _config(), Rendered([])) == ({}, [])
