"""Grafana as a component: who gets in, what it shows, and that nothing in it is a default of upstream."""

from __future__ import annotations

import configparser
import functools
import json
from typing import Any

import jmespath
import pulumi
import pytest
import yaml

from components import catalogue
from components.base import SCRAPER, selector
from components.config.grafana import PART, PORT
from components.config.parse import ConfigError, parse
from components.delivery.images import ImageError, ImageResolver
from components.mesh import entrance
from components.observability import grafana_files
from components.security import realm
from components.services.registry import SERVICES
from policies.access import gateway as gateway_layer
from policies.access import network_intents, render
from policies.access.network import Address, Pod, Policies
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, stack_file

pytestmark = pytest.mark.xdist_group("tree")
URL = "http://prometheus-operated.monitoring.svc:9090"
COPY = f"ghcr.io/acme/grafana@sha256:{'2' * 64}"
KEYCLOAK: dict[str, Any] = {"tenants": ["acme"]}


def content(environment: str = "dev", observability: dict[str, Any] | None = None, **section: Any) -> dict[str, Any]:
    """A stack file with Grafana and Keycloak."""
    found = stack_file(environment)
    watched = observability if observability is not None else {"grafana": {"prometheusUrl": URL, **section}}
    return {**found, "security": {**found.get("security", {}), "keycloak": KEYCLOAK}, "observability": watched}


def made(**section: Any) -> list[pulumi.runtime.MockResourceArgs]:
    return [*_rendered(json.dumps(content(**section)))]


@functools.cache
def _rendered(file: str) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return registered_of(json.loads(file))


def named(resources: list[pulumi.runtime.MockResourceArgs], kind: str, name: str) -> Any:
    (found,) = [plain(r.inputs) for r in resources if r.typ.endswith(f":{kind}") and r.name == name]
    return found


def pod(resources: list[pulumi.runtime.MockResourceArgs]) -> Any:
    return named(resources, "StatefulSet", "dev-grafana")["spec"]["template"]["spec"]


def settings(resources: list[pulumi.runtime.MockResourceArgs]) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser()
    found.read_string(named(resources, "ConfigMap", "dev-grafana-files")["data"]["grafana.ini"])
    return found


def sources(resources: list[pulumi.runtime.MockResourceArgs]) -> dict[str, Any]:
    text = named(resources, "ConfigMap", "dev-grafana-datasources")["data"]["datasources.yaml"]
    return {one["type"]: one for one in yaml.safe_load(text)["datasources"]}


def test_without_the_section_there_is_none() -> None:
    assert not [r.name for r in registered_of(stack_file("dev")) if "grafana" in r.name]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (content("local"), "none in the local environment: no package carries Grafana"),
        ({**content(), "security": {}}, "allowed with security.keycloak only"),
        (content(prometheusUrl=""), "required without observability.prometheus"),
        (
            content(observability={"grafana": {"prometheusUrl": URL}, "prometheus": {}}),
            "empty with observability.prometheus",
        ),
        (content(prometheusUrl="http://user:secret@host"), "URL without a user"),
        (content(image="docker.io/grafana/grafana:12.4.0"), "an image by digest"),
        (content(viewers=["acme"]), "the path of a group"),
        (content(viewers=["/a' || 'x"]), "the path of a group"),
    ],
)
def test_mistakes_are_named(file: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(file)
    assert said in str(caught.value)


def test_no_service_and_no_machine_takes_its_names() -> None:
    image = f"ghcr.io/acme/x@sha256:{'3' * 64}"
    for name, path in ((PART, "/v1/x"), ("other", "/grafana/x")):
        custom = {name: {"image": image, "prefixes": [{"path": path}]}}
        with pytest.raises(ConfigError):
            parse({**stack_file("dev"), "services": {**stack_file("dev").get("services", {}), "custom": custom}})
    with pytest.raises(ConfigError, match="name of a client of the platform"):
        parse({**content(), "security": {"keycloak": {"machines": [PART]}}})


def test_upstreams_image_is_named_by_digest_and_neither_built_nor_released_here() -> None:
    pin = catalogue.upstream(PART)
    assert pin.repository == "docker.io/grafana/grafana" and pin.version
    assert PART not in catalogue.image_names()
    assert "upstream grafana" in catalogue.versions()
    (container,) = pod(made(image=COPY))["containers"]
    assert container["image"] == COPY


def test_an_image_without_a_digest_is_not_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    config = parse(content())
    with pytest.raises(
        ImageError, match=r"has no digest of docker\.io/grafana/grafana .*set observability.grafana.image"
    ):
        ImageResolver(config.images, {PART: ""}).reference(PART)


def test_admission_lets_its_image_in() -> None:
    config = parse(content(image=COPY))
    assert COPY in ImageResolver(config.images, {PART: COPY}).admitted()


def test_nothing_is_a_default_of_upstream() -> None:
    found = settings(made())
    security = found["security"]
    for field, name in (("admin_password", "password"), ("secret_key", "key")):
        assert security[field] == f"$__file{{/var/run/secrets/service/{name}}}"
    assert found["auth.generic_oauth"]["client_secret"] == "$__file{/var/run/secrets/service/client}"
    off = (("auth.anonymous", "enabled"), ("users", "allow_sign_up"), ("metrics", "enabled"),
           ("analytics", "reporting_enabled"), ("analytics", "check_for_updates"), ("plugins", "plugin_admin_enabled"),
           ("public_dashboards", "enabled"), ("unified_alerting", "enabled"))  # fmt: skip
    assert {found[section][key] for section, key in off} == {"false"}
    assert security["cookie_secure"] == "true" and found["auth"]["disable_login_form"] == "true"


def test_its_secrets_are_generated_and_mounted_for_its_container_alone() -> None:
    resources = made()
    (container,) = pod(resources)["containers"]
    assert not [one for one in container["env"] if "valueFrom" in one]
    (volume,) = [one for one in pod(resources)["volumes"] if one["name"] == "secrets-grafana"]
    taken = {
        (s["secret"]["name"], i["key"], i["path"]) for s in volume["projected"]["sources"] for i in s["secret"]["items"]
    }
    assert {path for _, _, path in taken} == {"password", "key", "client"}
    random = [r for r in resources if r.typ.endswith(":RandomPassword") and r.name == "dev-grafana-secrets-grafana"]
    assert len(random) == 1 and random[0].inputs["length"] >= 43


def test_people_log_in_with_keycloak_and_only_operators_and_viewers_get_in() -> None:
    login = settings(made(viewers=["/tenants/acme/viewer"]))["auth.generic_oauth"]
    url = parse(content()).around.url
    assert login["auth_url"] == f"{url}/realms/cogniforge/protocol/openid-connect/auth"
    assert login["token_url"].startswith("https://") and "keycloak" in login["token_url"]
    assert login["role_attribute_strict"] == "true" and login["allow_assign_grafana_admin"] == "false"
    assert login["role_attribute_path"] == (
        "contains(not_null(roles, `[]`), 'operator') && 'Editor'"
        " || contains(not_null(groups, `[]`), '/tenants/acme/viewer') && 'Viewer'"
    )


CLAIMS: list[tuple[dict[str, Any], object]] = [
    ({"roles": ["operator"]}, "Editor"),
    ({"roles": ["operator"], "groups": ["/tenants/acme/viewer"]}, "Editor"),
    ({"roles": ["default-roles-cogniforge"], "groups": ["/tenants/acme/viewer"]}, "Viewer"),
    ({"groups": ["/tenants/acme/viewer"]}, "Viewer"),
    ({"roles": ["offline_access"], "groups": ["/tenants/acme/viewers", "/tenants/other/viewer"]}, False),
    ({}, False),
]


@pytest.mark.parametrize(("claims", "role"), CLAIMS)
def test_claims_become_a_role(claims: dict[str, Any], role: object) -> None:
    assert jmespath.search(grafana_files.role(["/tenants/acme/viewer"]), claims) == role


def test_the_realm_has_its_client_only_where_grafana_runs() -> None:
    config = parse(content())
    assert config.security.keycloak is not None
    url = config.around.url
    without = realm.declared(config.security.keycloak, url)
    assert PART not in {client.name for client in without.clients}
    (client,) = [c for c in realm.declared(config.security.keycloak, url, grafana=True).clients if c.name == PART]
    assert client.content["redirectUris"] == [f"{url}/grafana/login/generic_oauth"]
    assert not client.content["publicClient"] and not client.content["directAccessGrantsEnabled"]
    assert client.content["attributes"]["pkce.code.challenge.method"] == "S256"
    mappers = {one["name"]: one["config"] for one in client.content["protocolMappers"]}
    assert mappers["roles"]["claim.name"] == "roles" and mappers["roles"]["id.token.claim"] == "true"
    assert mappers["groups"]["claim.name"] == "groups" and mappers["groups"]["id.token.claim"] == "true"
    documents = [r for r in made() if r.name == "dev-keycloak-realm-content"]
    assert PART in json.loads(documents[0].inputs["data"]["document.json"])["clients"]


def test_its_pod_is_restricted_and_probed_and_only_its_volume_is_writable() -> None:
    resources = made()
    (container,) = pod(resources)["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] and container["securityContext"]["runAsNonRoot"]
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/data", "/tmp"}
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["GF_PATHS_DATA"] == "/data" and environment["GF_PATHS_PLUGINS"].startswith("/data/")
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert container[probe]["httpGet"]["path"] == "/grafana/api/health"
    budget = named(resources, "PodDisruptionBudget", "dev-grafana")
    assert budget["spec"]["maxUnavailable"] == 1


def test_each_folder_of_dashboards_is_provisioned() -> None:
    resources = made()
    text = named(resources, "ConfigMap", "dev-grafana-dashboards")["data"]["dashboards.yaml"]
    providers = {one["folder"]: one["options"]["path"] for one in yaml.safe_load(text)["providers"]}
    assert {"CogniForge", "CogniForge: services", "CogniForge: data"} <= providers.keys()
    mounts = {m["mountPath"]: m["name"] for m in pod(resources)["containers"][0]["volumeMounts"]}
    volumes = {v["name"]: v["configMap"]["name"] for v in pod(resources)["volumes"] if v.get("configMap")}
    for path in providers.values():
        assert volumes[mounts[path]].startswith("grafana-cogniforge")
    assert {"/etc/provisioning/dashboards", "/etc/provisioning/datasources"} <= mounts.keys()
    home = settings(resources)["dashboards"]["default_home_dashboard_path"]
    assert home == f"{providers['CogniForge']}/overview.json"
    boards = named(resources, "ConfigMap", "dev-grafana-cogniforge")
    assert "overview.json" in boards["data"]
    assert "grafana_dashboard" not in boards["metadata"]["labels"], "a sidecar would provision it, too"
    services = named(resources, "ConfigMap", "dev-grafana-cogniforge-services")["data"]
    assert "router.json" in services and services.keys() <= {f"{name}.json" for name in SERVICES}


def test_data_sources_are_the_stores_of_the_environment() -> None:
    assert sources(made()).keys() == {"prometheus"}
    assert sources(made())["prometheus"]["url"] == URL
    loki = {"url": "http://loki.monitoring.svc:3100", "tenant": "platform"}
    full = {"grafana": {}, "prometheus": {}, "traces": {}, "logs": {"loki": loki}}
    found = sources(made(observability=full))
    assert found["prometheus"]["url"] == "http://prometheus.observability.svc:9090"
    assert found["jaeger"]["url"] == "http://jaeger:16686"
    assert found["loki"]["url"] == loki["url"]
    assert found["loki"]["secureJsonData"] == {"httpHeaderValue1": "platform"}
    assert {one["uid"] for one in found.values()} == found.keys()
    hidden = {**full, "logs": {"loki": {**loki, "secretName": "loki-login"}}}
    assert "loki" not in sources(made(observability=hidden)), "its login is in a namespace that Grafana cannot read"


def test_only_the_gateway_reaches_it_and_it_reaches_its_stores() -> None:
    full = {"grafana": {}, "prometheus": {}, "traces": {}}
    policies = Policies(render.read(made(observability=full)))
    space = parse(content()).cluster.namespace
    own, metrics = Pod(space, {**selector(PART)}), Pod(SCRAPER[0], {**selector(SCRAPER[1])})
    assert policies.enters(Pod(space, {**selector("gateway")}), own, PORT, "http")
    others = [Pod(space, {**selector("router")}), Pod("elsewhere", {**selector("gateway")}), Address("198.51.100.7")]
    assert [policies.enters(one, own, PORT, "http") for one in others] == [None] * 3
    assert policies.enters(own, metrics, 9090, "http") and policies.leaves(own, metrics, 9090, "http")
    assert not policies.enters(Pod(space, {**selector("router")}), metrics, 9090, "http")
    assert not policies.enters(Pod("elsewhere", {**selector(PART)}), metrics, 9090, "http")
    assert policies.enters(own, Pod(space, {**selector("jaeger")}), 16686, "query")
    assert not policies.enters(Pod(space, {**selector("router")}), Pod(space, {**selector("jaeger")}), 16686, "query")
    assert policies.enters(own, Pod(space, {**selector("keycloak")}), 8443, "https")


def test_the_gateway_forwards_its_path_and_nothing_else() -> None:
    routes = [one for one in entrance.intent(parse(content())).routes if one.backend.name == PART]
    assert [(one.prefix, one.backend.port) for one in routes] == [("/grafana/", PORT)]
    assert not [one for one in entrance.intent(parse(stack_file("dev"))).routes if one.backend.name == PART]


@pytest.mark.parametrize(
    "observability",
    [
        {"grafana": {"prometheusUrl": URL}},
        {
            "grafana": {"prometheusUrl": "https://metrics.example.com"},
            "logs": {"loki": {"url": "https://logs.example.com"}},
        },
        {"grafana": {}, "prometheus": {}, "traces": {}, "logs": {"loki": {"url": "http://loki.monitoring.svc:3100"}}},
    ],
)
@pytest.mark.parametrize("layer", [network_intents.LAYER, gateway_layer.LAYER], ids=["network", "gateway"])
def test_what_is_granted_is_what_is_asked_for(layer: Any, observability: dict[str, Any]) -> None:
    file = content(observability=observability)
    rendered = render.read(made(observability=observability))
    granted, asked = {*layer.granted(rendered)}, {*layer.intended(parse(file), rendered)}
    assert {a for a in granted ^ asked if PART in f"{a.who} {a.target}"} == set()
