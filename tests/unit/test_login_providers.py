"""Other identity providers, applications and delegates: what is declared, what is refused, what the pods get."""

from __future__ import annotations

import base64
import copy
import functools
import json
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.parse import parse
from components.config.problems import ConfigError
from components.config.providers import GrantedRole
from components.config.security import Keycloak
from components.security import realm, realm_providers
from tests.unit.test_platform import registered_of, without_servers

pytestmark = pytest.mark.xdist_group("tree")
CERTIFICATE = base64.b64encode(b"\x30\x82" + b"x" * 300).decode()
OIDC = {"issuer": "https://login.example.com:9443/x", "clientId": "platform", "secretName": "corporate-login"}
SAML = {"entityId": "urn:partner", "signOnUrl": "https://partner.example.com/sso", "certificates": [CERTIFICATE]}
METADATA = {"metadataUrl": "https://partner.example.com/metadata"}
SECTION: dict[str, Any] = {
    "tenants": ["acme"],
    "machines": ["reports"],
    "providers": [
        {
            "name": "corporate",
            "oidc": OIDC,
            "trustEmail": True,
            "grants": [
                {"claim": "groups", "value": "ai", "role": "editor", "tenant": "acme"},
                {"claim": "groups", "value": "ops", "role": "operator"},
            ],
        },
        {"name": "partner", "saml": SAML},
        {"name": "other", "saml": METADATA},
    ],
    "applications": [
        {"name": "notes", "redirects": ["https://notes.example.com/callback"]},
        {"name": "page", "redirects": ["https://page.example.com/back"], "secret": False},
        {"name": "wiki", "protocol": "saml", "entityId": "urn:wiki", "redirects": ["https://wiki.example.com/acs"]},
    ],
    "delegates": [{"machine": "reports", "applications": ["notes"], "scopes": ["inference", "retrieval"]}],
}


def content(**own: Any) -> dict[str, Any]:
    return realm.declared(Keycloak.model_validate({**SECTION, **own}), "https://api.example.com").content


@functools.cache
def resources() -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return registered_of(without_servers("local") | {"security": {"keycloak": SECTION}})


def named(kind: str, name: str) -> Any:
    (found,) = [one for one in resources() if one.typ.endswith(f":{kind}") and one.name == name]
    return found.inputs


def problems(section: dict[str, Any]) -> dict[str, str]:
    """Limits by path."""
    with pytest.raises(ConfigError) as raised:
        parse(without_servers("local") | {"security": {"keycloak": section}})
    assert all(one.fix for one in raised.value.problems)
    return {one.path.removeprefix("security.keycloak."): one.limit for one in raised.value.problems}


def test_no_claim_is_trusted_more_than_is_declared() -> None:
    declared = content()["providers"]
    flows = {name: one["content"]["firstBrokerLoginFlowAlias"] for name, one in declared.items()}
    assert flows == {
        "corporate": realm_providers.NEW,
        "partner": realm_providers.EXISTING,
        "other": realm_providers.EXISTING,
    }
    for one in declared.values():
        config = one["content"]["config"]
        assert (config["validateSignature"], config["syncMode"]) == ("true", "IMPORT")
        assert all(mapper["config"]["syncMode"] in ("FORCE", "INHERIT") for mapper in one["mappers"].values())
    assert declared["corporate"]["content"]["config"]["clientSecret"] == "${vault.corporate}"
    assert not Keycloak.model_validate({"providers": [{"name": "x", "oidc": OIDC}]}).providers[0].trust_email


def test_no_flow_gives_an_account_without_its_password() -> None:
    def steps(flow: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return [
            line
            for one in flow
            for line in ((one.get("authenticator", ""), one["requirement"]), *steps(one.get("steps", [])))
        ]

    for flow in (realm_providers.NEW, realm_providers.EXISTING):
        assert ("idp-username-password-form", "REQUIRED") in steps(content()["flows"][flow])
        assert ("auth-otp-form", "REQUIRED") in steps(content()["flows"][flow])
    assert "idp-create-user-if-unique" not in dict(steps(content()["flows"][realm_providers.EXISTING]))


def test_without_providers_logins_are_as_before() -> None:
    made = content(providers=[], applications=[], delegates=[])
    assert (made["flows"], made["providers"], made["browserFlow"]) == ({}, {}, "browser")


@given(st.lists(st.sampled_from([role for role in GrantedRole if role is not GrantedRole.OPERATOR]), max_size=5))
def test_each_grant_has_a_mapper_to_a_group_that_exists(roles: list[GrantedRole]) -> None:
    grants = [{"claim": "groups", "value": f"v{n}", "role": role, "tenant": "acme"} for n, role in enumerate(roles)]
    made = content(providers=[{"name": "corporate", "oidc": OIDC, "grants": grants}])
    mappers = list(made["providers"]["corporate"]["mappers"].values())
    assert [one["config"]["group"] for one in mappers] == [f"/tenants/acme/{role.value}" for role in roles]
    assert {one["config"]["group"] for one in mappers} <= set(made["groups"])


def test_one_machine_may_exchange_tokens_of_its_applications_only() -> None:
    clients = content()["clients"]
    exchanging = [name for name, one in clients.items() if one["attributes"].get(realm.EXCHANGE) == "true"]
    assert exchanging == ["reports"]

    def audiences(name: str) -> set[str]:
        configs = [one["config"] for one in clients[name]["protocolMappers"]]
        return {one["included.client.audience"] for one in configs if "included.client.audience" in one}

    assert audiences("notes") == {"notes", "reports"}
    assert audiences("page") == {"page"} and clients["page"]["publicClient"]
    assert audiences("reports") == {"gateway"}


def test_an_application_with_saml_gets_signed_assertions_at_its_own_address() -> None:
    wiki = content()["clients"]["urn:wiki"]
    assert (wiki["protocol"], wiki["redirectUris"]) == ("saml", ["https://wiki.example.com/acs"])
    assert wiki["attributes"]["saml.assertion.signature"] == "true"


def test_user_knows_the_delegates_and_their_scopes() -> None:
    (container,) = named("Deployment", "local-user")["spec"]["template"]["spec"]["containers"]
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert json.loads(values["SERVICE_OIDC_DELEGATES"]) == {"reports": ["inference", "retrieval"]}
    assert json.loads(values["SERVICE_OIDC_PROGRAMS"]) == ["forge"]


def test_the_client_secret_is_a_file_that_the_pod_does_not_wait_for() -> None:
    pod = named("StatefulSet", "local-keycloak")["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "secrets-keycloak"]
    assert volume["projected"]["sources"] == [
        {
            "secret": {
                "name": "corporate-login",
                "items": [{"key": "secret", "path": "cogniforge_corporate"}],
                "optional": True,
            }
        }
    ]
    file = named("Secret", "local-keycloak-files")["stringData"]["value"]["keycloak.conf"]
    assert "vault-dir=/var/run/secrets/service\n" in file


def test_keycloak_reaches_the_ports_of_its_providers_only() -> None:
    policy = named("NetworkPolicy", "local-keycloak-providers")["spec"]
    assert policy["policyTypes"] == ["Egress"]
    assert [one["port"] for one in policy["egress"][0]["ports"]] == [443, 9443]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "keycloak"


def test_all_mistakes_of_the_lists_appear_together() -> None:
    wrong = copy.deepcopy(SECTION)
    wrong["providers"][0]["grants"][0]["tenant"] = "amce"
    wrong["providers"][0]["only"] = True
    wrong["providers"][1]["name"] = "corporate"
    wrong["applications"][0]["name"] = "portal"
    wrong["delegates"] = [{"machine": "report", "applications": ["wiki"], "scopes": ["manage", "inferense"]}]
    found = problems(wrong)
    assert set(found) == {
        "providers[0].grants[0].tenant",
        "providers[1].name",
        "providers[1].shown",
        "providers[2].shown",
        "applications[0].name",
        "delegates[0].machine",
        "delegates[0].applications[0]",
        "delegates[0].scopes[0]",
        "delegates[0].scopes[1]",
    }


@pytest.mark.parametrize(
    ("field", "wrong", "path"),
    [
        ("providers", {"name": "x"}, "providers[0]"),
        ("providers", {"name": "x", "oidc": OIDC, "saml": SAML}, "providers[0]"),
        ("providers", {"name": "x", "oidc": {**OIDC, "issuer": "http://x.example.com"}}, "providers[0].oidc.issuer"),
        ("providers", {"name": "x", "oidc": {**OIDC, "clientSecret": "x"}}, "providers[0].oidc.clientSecret"),
        ("providers", {"name": "x", "saml": {**SAML, **METADATA}}, "providers[0].saml"),
        ("providers", {"name": "x", "saml": {"entityId": "x"}}, "providers[0].saml"),
        ("providers", {"name": "x", "saml": {**SAML, "certificates": ["eA=="]}}, "providers[0].saml.certificates[0]"),
        (
            "providers",
            {"name": "x", "oidc": OIDC, "grants": [{"claim": "g", "value": "v", "role": "owner"}]},
            "providers[0].grants[0]",
        ),
        (
            "providers",
            {"name": "x", "oidc": OIDC, "grants": [{"claim": "g", "value": "v", "role": "operator", "tenant": "acme"}]},
            "providers[0].grants[0]",
        ),
        (
            "applications",
            {"name": "x", "redirects": ["https://x.example.com/acs"], "protocol": "saml"},
            "applications[0]",
        ),
        ("applications", {"name": "x", "redirects": []}, "applications[0].redirects"),
        ("applications", {"name": "x", "redirects": ["https://x.example.com/*"]}, "applications[0].redirects[0]"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_path(field: str, wrong: dict[str, Any], path: str) -> None:
    assert path in problems({"tenants": ["acme"], field: [wrong]})
