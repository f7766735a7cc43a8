"""Keycloak: its rendered resources, and what its configuration needs."""

from __future__ import annotations

import functools
import json
from typing import Any

import pulumi
import pytest

from components import catalogue
from components.config.parse import parse
from components.config.problems import ConfigError
from local.images import maven
from local.images.catalogue import IMAGES, ImageName
from policies.access import gateway, render
from tests.unit.test_platform import registered, registered_of, registered_without_servers, without_servers

pytestmark = pytest.mark.xdist_group("tree")
PART = "keycloak"
Resources = tuple[pulumi.runtime.MockResourceArgs, ...]


@functools.cache
def with_keycloak(environment: str = "local", replicas: int = 1) -> Resources:
    return registered_of(without_servers(environment) | {"security": {"keycloak": {"replicas": replicas}}})


def named(resources: Resources, kind: str, name: str) -> Any:
    """Inputs of the only resource of a kind with this name."""
    (found,) = [r for r in resources if r.typ.endswith(f":{kind}") and r.name == name]
    return found.inputs


def pod() -> dict[str, Any]:
    return named(with_keycloak(), "StatefulSet", f"local-{PART}")["spec"]["template"]["spec"]


def settings(replicas: int = 1) -> dict[str, str]:
    files = named(with_keycloak(replicas=replicas), "Secret", f"local-{PART}-files")["stringData"]["value"]
    return dict(line.split("=", 1) for line in files["keycloak.conf"].splitlines())


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_it_is_disabled_by_default(environment: str) -> None:
    assert [r.name for r in registered(environment) if PART in r.name] == []


def test_the_rest_of_an_environment_stays_as_it_is() -> None:
    def of(resources: Resources) -> set[tuple[str, str]]:
        return {(r.typ, r.name) for r in resources}

    assert of(registered_without_servers("local")) - of(with_keycloak()) == set()
    others = {
        name for _, name in of(with_keycloak()) - of(registered_without_servers("local")) if f"local-{PART}" not in name
    }
    assert others == {f"local-logins-{PART}"}  # its login at PostgreSQL


def test_it_owns_a_database_and_a_login() -> None:
    job = named(with_keycloak(), "Job", "local-postgres-provision")["spec"]["template"]["spec"]["containers"][0]
    asked = json.loads(next(v["value"] for v in job["env"] if v["name"] == "PROVISION"))
    (own,) = [one for one in asked["databases"] if one["name"] == PART]
    assert own == {"name": PART, "login": PART, "extensions": [], "outbox": False}
    assert (settings()["db-username"], settings()["db-url"].rpartition("/")[2]) == (PART, PART)
    policy = named(with_keycloak(), "NetworkPolicy", "local-postgres")["spec"]
    admitted = [p["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for p in policy["ingress"][1]["from"]]
    assert PART in admitted


def test_its_secrets_are_in_a_file_only() -> None:
    (container,) = pod()["containers"]
    assert container["env"] == []
    assert container["args"] == ["/etc/keycloak-secret/keycloak.conf"]
    assert settings()["db-password"] and settings()["bootstrap-admin-client-secret"]
    assert settings()["db-password"] != settings()["bootstrap-admin-client-secret"]
    assert "bootstrap-admin-password" not in settings()  # nobody logs in to the realm "master"


def test_its_container_is_restricted_and_probed_at_the_management_port() -> None:
    (container,) = pod()["containers"]
    security = container["securityContext"]
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert container["resources"]["limits"] == {"memory": "700Mi"}
    paths = {n: p["httpGet"] for n, p in container.items() if n.endswith("Probe")}
    assert {one["port"] for one in paths.values()} == {"management"}
    assert paths["readinessProbe"]["path"] == "/health/ready"
    assert paths["livenessProbe"]["path"] == "/health/live"


def test_the_gateway_reaches_one_port_and_user_the_other() -> None:
    rules = named(with_keycloak(), "NetworkPolicy", f"local-{PART}")["spec"]["ingress"]
    admitted = {
        port["port"]: {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]}
        for rule in rules[1:3]
        for port in rule["ports"]
    }
    assert admitted == {"https": {"user", f"{PART}-task"}, "http": {"gateway"}}
    assert rules[3]["ports"] == [{"port": 9000}]


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("/realms/cogniforge/protocol/openid-connect/auth", True),
        ("/resources/x/login/style.css", True),
        ("/realms/master/protocol/openid-connect/token", False),
        ("/realms/cogniforge2/account", False),
        ("/admin/realms", False),
        ("/admin/master/console", False),
        ("/metrics", False),
        ("/health", False),
    ],
)
def test_clients_reach_the_realm_of_people_and_no_administration(path: str, reached: bool) -> None:
    doors = gateway._doors(render.read(with_keycloak()))  # pyright: ignore[reportPrivateUsage]
    assert {door.target(path) for door in doors} == {PART if reached else None}


def test_issuers_have_the_address_of_the_gateway_and_one_server_has_no_peers() -> None:
    assert settings()["hostname"] == "https://localhost:8443"
    assert settings()["hostname-backchannel-dynamic"] == "true"
    assert settings()["cache"] == "local"
    assert settings(replicas=3)["cache"] == "ispn"


def test_the_isolation_check_tries_its_ports() -> None:
    job = named(with_keycloak(), "Job", "local-isolation")["spec"]["template"]["spec"]["containers"][0]
    targets = json.loads(next(v["value"] for v in job["env"] if v["name"] == "TARGETS"))
    tried = {host.partition(".")[0]: ports for host, ports in targets.items()}
    assert tried[PART] == [8080, 8443, 9000]


@pytest.mark.parametrize("missing", ["data", "services"])
def test_it_needs_a_database_and_user(missing: str) -> None:
    content = without_servers("local") | {"security": {"keycloak": {}}}
    content[missing] = {k: v for k, v in content[missing].items() if k == "nats"}
    with pytest.raises(ConfigError) as raised:
        parse(content)
    assert "security.keycloak" in {problem.path for problem in raised.value.problems}


def test_another_provider_of_logins_is_refused_beside_it() -> None:
    content = without_servers("local") | {"security": {"keycloak": {}}}
    login = {"issuer": "https://x.example.com", "clientId": "x", "secretName": "x"}
    content["services"] = {**content["services"], "user": {**content["services"]["user"], "login": login}}
    with pytest.raises(ConfigError) as raised:
        parse(content)
    assert [problem.path for problem in raised.value.problems] == ["services.user.login"]


def test_the_lock_and_the_image_have_one_version() -> None:
    (pinned,) = maven.read_lock(IMAGES[ImageName.KEYCLOAK].folder)
    assert pinned.version == catalogue.image(PART).version
