"""The Portal in the tree of components: off by default, one line turns it on, and what follows from its record."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from components.base import selector
from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.config.problems import ConfigError
from components.mesh import entrance
from components.services import evidence, telemetry
from components.services.registry import SERVICES
from local import paths
from local.images.catalogue import IMAGES, needed
from policies.access import render
from policies.access.model import compare
from policies.access.network import Pod, Policies
from policies.access.objects import plain
from policies.access.proof import LAYERS
from tests.unit.test_platform import registered_of, without_servers

sys.path[:0] = [str(paths.PROJECT / "service_images" / part / "src") for part in ("kit", "portal")]

from portal.boards import Board  # noqa: E402
from portal.dashboards import MOST_QUERIES, Shown  # noqa: E402
from portal.evidence import Evidence  # noqa: E402
from portal.settings import PortalSettings  # noqa: E402
from portal.topology import Part  # noqa: E402

RECORD = next(record for record in SERVICES.values() if record.arrival)


def _content() -> dict[str, Any]:
    return without_servers("local")


def _config(**services: Any) -> PlatformConfig:
    content = _content()
    content["services"] |= {RECORD.name: {}, **services}
    return parse(content)


def test_it_is_off_unless_one_line_turns_it_on() -> None:
    off, on = parse(_content()), _config()
    assert RECORD.name not in off.around.records and RECORD.name in on.around.records
    assert RECORD.image not in needed(off.asked_images) and RECORD.image in needed(on.asked_images)
    assert IMAGES[RECORD.image].asked


def test_it_needs_the_service_that_keeps_keys() -> None:
    content = _content()
    content["services"] = {RECORD.name: {}}
    with pytest.raises(ConfigError, match=r"services\.portal = .*\n.*its reader's own API key"):
        parse(content)


def test_its_pages_are_at_the_gateway() -> None:
    routes = {route.prefix: route.backend.name for route in entrance.intent(_config()).routes}
    assert routes["/portal"] == RECORD.name


def test_it_learns_the_other_services_from_their_records() -> None:
    config = _config()
    variables = RECORD.variables(config.services.there[RECORD.name], config.around)
    parts = [Part.model_validate(part) for part in json.loads(variables["SERVICE_PARTS"])]
    assert {part.name for part in parts} == set(config.around.records) - {RECORD.name}
    assert all(part.title and part.about for part in parts)
    assert variables["SERVICE_PUBLIC_URL"] == "https://localhost:8443"


@pytest.mark.parametrize("logins", [False, True], ids=["keys", "logins"])
def test_logins_lead_to_it_only_where_people_log_in(logins: bool) -> None:
    login = {"issuer": "https://login.example.com", "clientId": "c", "secretName": "s"}
    config = _config(user={"login": login} if logins else {})
    keeper = config.around.records[config.around.keeper]
    variables = keeper.variables(config.services.there[keeper.name], config.around)
    assert variables.get("SERVICE_OIDC_ARRIVAL", "") == (RECORD.arrival if logins else "")
    own = RECORD.variables(config.services.there[RECORD.name], config.around)
    assert own["SERVICE_LOGINS"] == str(logins).lower()


@pytest.mark.xdist_group("tree")
@pytest.mark.parametrize("more", [{}, {"security": {"keycloak": {}, "opa": {}}}, {"mesh": {"mode": "sidecar"}}])
def test_nothing_is_possible_with_it_that_no_record_asks_for(more: dict[str, Any]) -> None:
    content = {**_content(), **more}
    content["services"] |= {RECORD.name: {}}
    resources = registered_of(content)
    objects, config = render.read(resources), parse(content)
    assert [one for layer in LAYERS for one in compare(layer, config, objects)[1]] == []
    workload = objects.workloads[RECORD.name]
    assert any(entry == "ca.crt" for _, entry in workload.secrets)
    assert (f"login-{RECORD.name}-keys", "session") in workload.secrets
    deployments = [one.inputs for one in resources if one.typ.endswith(":Deployment")]
    (made,) = [one for one in deployments if one["metadata"]["name"] == RECORD.name]
    (container,) = made["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["SERVICE_GATEWAY_URL"] == "https://gateway.cogniforge:8443"
    assert "SERVICE_EVIDENCE" in variables


@pytest.mark.parametrize("opa", [False, True])
def test_it_shows_what_the_deployment_knows(opa: bool) -> None:
    content = _content() | ({"security": {"opa": {}}} if opa else {})
    references = {name: f"registry.example/{name}@sha256:{'0' * 64}" for name in ("router", "own-one")}
    known = Evidence.model_validate_json(evidence.text(parse(content), references))
    assert [(one.name, one.own, bool(one.version)) for one in known.images] == [
        ("own-one", False, False),
        ("router", True, True),
    ]
    states = {one.title: one.in_force for one in known.policies}
    assert states["Decisions at the gateway"] is opa and states["Images"] and states["Network"]


def test_it_reaches_the_servers_of_metrics_spans_and_lines_and_another_service_does_not() -> None:
    content = _content() | {"observability": {"prometheus": {}, "traces": {}, "logs": {}}}
    content["services"] = {**content["services"], RECORD.name: {}}
    resources = registered_of(content)
    (pod,) = [plain(one.inputs)["spec"]["template"]["spec"] for one in resources
              if one.typ.endswith(":Deployment") and one.name == f"local-{RECORD.name}"]  # fmt: skip
    (container,) = pod["containers"]
    given = {one["name"]: one.get("value", "") for one in container["env"]}
    drawn = [Board.model_validate(board) for board in json.loads(given["SERVICE_BOARDS"])]
    assert len(drawn) > 8 and len(given["SERVICE_BOARDS"]) < 100_000
    for board in drawn:
        assert 0 < sum(len(panel.queries) for panel in board.panels) <= MOST_QUERIES, board.name
        assert Shown.model_validate({"board": board.name}).board == board.name and board.owner
    policies = Policies(render.read(resources))
    for variable, space, server, port in (
        ("SERVICE_PROMETHEUS_URL", "observability", "prometheus", 9090),
        ("SERVICE_JAEGER_URL", "cogniforge", "jaeger", 16686),
        ("SERVICE_LOG_STORE_URL", "logs", "log-store", 9428),
    ):
        assert given[variable] == f"http://{server}.{space}:{port}"
        assert variable.removeprefix("SERVICE_").lower() in PortalSettings.model_fields
        target, name = Pod(space, {**selector(server)}), "query" if server == "jaeger" else "http"
        reader, other = (Pod("cogniforge", {**selector(who)}) for who in (RECORD.name, "router"))
        assert policies.leaves(reader, target, port, name) and policies.enters(reader, target, port, name)
        assert not policies.enters(other, target, port, name)
        assert not policies.enters(Pod("elsewhere", reader.labels), target, port, name)
    folder, _, file = given["SERVICE_LOG_STORE_LOGIN"].rpartition("/")
    (mount,) = [one["name"] for one in container["volumeMounts"] if one["mountPath"] == folder]
    (source,) = next(one for one in pod["volumes"] if one["name"] == mount)["projected"]["sources"]
    assert source["secret"] == {"name": "log-store-login", "items": [{"key": "authorization", "path": file}],
                                "optional": True}  # fmt: skip
    secrets = [plain(one.inputs)["metadata"] for one in resources if one.typ.endswith(":Secret")]
    spaces = [one["namespace"] for one in secrets if one.get("name") == "log-store-login"]
    assert sorted(spaces) == ["cogniforge", "logs"]


def test_without_these_servers_it_knows_none_and_with_a_loki_no_store() -> None:
    loki = {"loki": {"url": "http://loki-gateway.monitoring.svc"}}
    for sections in ({}, {"logs": loki}):
        content = _content() | {"observability": sections}
        content["services"] = {**content["services"], RECORD.name: {}}
        shown = telemetry.shown(RECORD, parse(content), {"namespace": "n", "image": "i"}, [])
        assert (shown.get("environment"), shown.get("shows"), shown.get("credentials")) == ({}, {}, {})
