"""Policies of the gateway: their own tests, their data, and the signed bundle that holds both."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from components.config.parse import parse
from components.config.problems import ConfigError
from components.security import policy_bundle
from tests import opa_server
from tests.opa_server import bundle, configuration, decide, decisions, key_pair, request
from tests.unit.test_platform import stack_file

COVERED_PERCENT = 95
OWN = {"own.rego": 'package own\n\ndeny contains "Not today." if input.method == "DELETE"\n'}


def test_policies_pass_their_tests_which_cover_nearly_all_lines() -> None:
    command = [str(opa_server.program()), "test", f"-threshold={COVERED_PERCENT}", str(policy_bundle.POLICIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failing_or_missing_test_of_a_policy_is_an_error(tmp_path: Path) -> None:
    command = [str(opa_server.program()), "test", "-threshold=95", str(tmp_path)]
    (tmp_path / "a.rego").write_text('package a\n\nx := 1 if input.y\n\nz := "never" if input.w\n')
    for text, message in (
        ("package a_test\n\ntest_x if data.a.x == 2 with input.y as true\n", "the policies' tests failed"),
        ("package a_test\n\ntest_x if data.a.x == 1 with input.y as true\n", "not covered: "),
        ("package a_test\n", "there are no tests"),
    ):
        (tmp_path / "a_test.rego").write_text(text)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr


def test_the_same_content_gives_the_same_bundle() -> None:
    config = configuration()
    assert bundle(config) == bundle(config)
    assert bundle(config) != bundle(config, OWN)


def test_opa_accepts_the_bundle_that_the_platforms_key_has_signed(tmp_path: Path) -> None:
    (found,) = decisions(bundle(configuration()), [request("GET", "/", None)], tmp_path, key_pair("platform").public)
    assert found == {"allowed": True, "rule": "allowed"}


@pytest.mark.parametrize("kind", ["other key", "changed policy", "added file", "no signature"])
def test_opa_refuses_a_bundle_that_was_tampered_with(kind: str, tmp_path: Path) -> None:
    good = bundle(configuration(), key="other" if kind == "other key" else "platform")
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        files = {one.name: (archive.extractfile(one) or io.BytesIO()).read() for one in archive}
    if kind == "changed policy":
        files["policies/gateway.rego"] += b"\noperator if true\n"
    elif kind == "added file":
        files["own/more.rego"] = b"package own\n\ndeny contains 1\n"
    elif kind == "no signature":
        del files[".signatures.json"]
    changed = io.BytesIO()
    with tarfile.open(fileobj=changed, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    done = decide(changed.getvalue(), [request("GET", "/", None)], tmp_path, key_pair("platform").public)
    assert (done.returncode, done.stdout) == (1, "")


def test_the_data_has_every_documented_operation_once() -> None:
    found = [(one.method, one.segments) for one in opa_server.operations(configuration())]
    assert len(found) == len(set(found)) > 100


def test_operations_of_services_that_are_not_enabled_are_unknown() -> None:
    services = {name: one for name, one in stack_file("local")["services"].items() if name != "prompt"}
    services = {name: one for name, one in services.items() if name != "retriever"}
    paths = {one.path for one in opa_server.operations(configuration(services=services))}
    assert "/v1/prompts" not in paths
    assert "/v1/chat/completions" in paths


def test_own_services_are_asked_for_as_their_section_says(tmp_path: Path) -> None:
    section = {"image": f"registry.example/notes@sha256:{'0' * 64}"}
    services = {
        **stack_file("local")["services"],
        "custom": {
            "notes": {**section, "prefixes": [{"path": "/v1/notes"}], "keys": "directory", "scopes": ["inference"]},
            "status": {**section, "prefixes": [{"path": "/v1/status"}], "keys": "none"},
        },
    }
    asked = [
        request("PUT", "/v1/notes/a/b", ["inference"]),
        request("PUT", "/v1/notes", ["billing"]),
        request("GET", "/v1/status/x", None),
    ]
    found = decisions(bundle(configuration(services=services)), asked, tmp_path)
    assert [one["rule"] for one in found] == ["allowed", "missing_scope", "allowed"]


def test_pages_of_keycloak_need_no_key(tmp_path: Path) -> None:
    asked = [
        request("GET", "/realms/cogniforge/.well-known/openid-configuration", None),
        request("POST", "/realms/cogniforge/protocol/openid-connect/token", None),
        request("GET", "/realms/master", None),
        request("GET", "/admin/master/console", None),
    ]
    found = decisions(bundle(configuration(security={"opa": {}, "keycloak": {}})), asked, tmp_path)
    assert [one["rule"] == "allowed" for one in found] == [True, True, False, False]


def test_rules_of_tenants_reach_the_policies(tmp_path: Path) -> None:
    model = stack_file("local")["models"][0]["name"]
    hours = {"days": ["thursday"], "begin": "01:00", "end": "02:30"}
    opa = {
        "regions": {model: "us"},
        "tenants": {"acme": {"regions": ["eu"]}, "night": {"hours": [hours], "timeZone": "Europe/London"}},
    }
    chat = request("POST", "/v1/chat/completions", ["inference"], model=model)
    night = {"tenant": "night", "id": "k2", "scopes": ["inference"]}
    minute = 60 * 10**9  # the epoch began on a Thursday, at 01:00 in London
    asked = [
        chat,
        request("GET", "/v1/self"),
        *(request("GET", "/v1/self", caller=night, key=True, time=when * minute) for when in (-1, 0, 89, 90)),
    ]
    found = [one["rule"] for one in decisions(bundle(configuration(opa)), asked, tmp_path)]
    assert found == ["region_not_allowed", "allowed", "outside_hours", "allowed", "allowed", "outside_hours"]


def test_rules_of_ones_own_can_only_deny(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "more.rego").write_text("package cogniforge.gateway\n\noperator if true\n")
    with pytest.raises(ConfigError, match="rules of your own can deny, and nothing else"):
        policy_bundle.own_rules(folder)
    (folder / "more.rego").write_text(OWN["own.rego"])
    (folder / "more_test.rego").write_text("package own_test\n")
    rules = policy_bundle.own_rules(folder)
    assert list(rules) == ["more.rego"]
    asked = [request(method, "/v1/tenants/a", ["admin"]) for method in ("GET", "DELETE")]
    found = decisions(bundle(configuration(), rules), asked, tmp_path)
    assert [one["rule"] for one in found] == ["allowed", "own_rule"]
    assert found[1]["body"]["error"]["message"] == "Not today."


def test_a_folder_without_rules_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one file"):
        policy_bundle.own_rules(tmp_path)


def test_a_key_that_is_not_rsa_is_an_error() -> None:
    elliptic = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
"""
    with pytest.raises(TypeError, match="RSA"):
        policy_bundle.build(policy_bundle.contents({}, {}), elliptic)


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"services": {}}, "services.user"),
        ({"security": {"opa": {"tenants": {"a": {"models": ["none"]}}}}}, "security.opa.tenants.a.models[0]"),
        ({"security": {"opa": {"tenants": {"a": {"regions": ["eu"]}}}}}, "security.opa.regions"),
        ({"security": {"opa": {"regions": {"none": "eu"}}}}, "security.opa.regions.none"),
        ({"security": {"opa": {"rules": "../rules"}}}, "a folder below"),
        (
            {
                "security": {
                    "opa": {"tenants": {"a": {"hours": [{"days": ["monday"], "begin": "9:00", "end": "24:00"}]}}}
                }
            },
            "a time of day",
        ),
        (
            {
                "security": {
                    "opa": {"tenants": {"a": {"hours": [{"days": ["monday"], "begin": "10:00", "end": "09:00"}]}}}
                }
            },
            "end after begin",
        ),
        ({"security": {"opa": {"tenants": {"a": {"timeZone": "Mars"}}}}}, "IANA"),
    ],
)
def test_mistakes_in_the_section_are_named(sections: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse({**stack_file("local"), "security": {"opa": {}}, **sections})
    assert problem in str(raised.value)
