"""Dashboards of every environment keep eight rules; each rule finds what breaks it."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pulumi
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from components.observability import (
    alerts_security,
    boards,
    boards_data,
    boards_security,
    boards_traces,
    dashboards,
    objective,
)
from components.observability.portal_boards import portal_boards
from components.services.registry import SERVICES
from policies.access.objects import plain
from tests import board_rules, model_server
from tests.known_metrics import DCGM, FOREIGN, ours, shown
from tests.unit.test_platform import registered_of, stack_file

pytestmark = pytest.mark.xdist_group("promtool")
ENVIRONMENTS = ("local", "dev", "staging", "prod")
_OF_SERVERS = (*boards_data.BOARDS, *boards_security.BOARDS, boards_traces.BOARD)
SERVERS = {name for board in _OF_SERVERS for name in board.metrics}
"""Queried metrics of servers. The tests that start these servers compare them with a scrape: test_metrics (e2e),
test_content (OpenBao), test_opa_gateway, test_gateway_drill (the OpenTelemetry gateway)."""
_OTHERS = ("otlpEndpoint", "traceSampleRatio", "prometheus")
"""Settings in whose place the environments of these tests have traces and the operator."""
OWN = {
    "greeter": {
        "image": f"ghcr.io/acme/greeter@sha256:{'1' * 64}",
        "prefixes": [{"path": "/v1/greeter"}],
        "keys": "none",
        "replicas": 2,
    }
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Metrics of vLLM's simulator, which has vLLM's names, after one answer."""
    with model_server.running(tmp_path_factory.mktemp("model")) as url:
        body = {"model": model_server.MODEL, "messages": [{"role": "user", "content": "hi"}]}
        shown_key = {"authorization": f"Bearer {model_server.KEY}"}
        asked = httpx.post(f"{url}/v1/chat/completions", json=body, headers=shown_key, trust_env=False)
        assert asked.status_code == 200
        return shown(httpx.get(f"{url}/metrics", trust_env=False).text)


@pytest.fixture(scope="module")
def known(simulated: set[str]) -> set[str]:
    return ours() | objective.recorded() | FOREIGN | DCGM | SERVERS | simulated


@functools.cache
def resources_of(environment: str) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    """What the environment consists of, with the operator, traces, OPA and a service of the user's own."""
    content = stack_file(environment)
    section = {key: value for key, value in content.get("observability", {}).items() if key not in _OTHERS}
    content["observability"] = {**section, "prometheusOperator": True, "traces": {}}
    content["services"] = {**content.get("services", {}), "custom": OWN}
    if content.get("gateway", {}).get("engine", "envoy") == "envoy":
        content["security"] = {"opa": {}, **content.get("security", {})}
    return registered_of(content)


@functools.cache
def boards_of(environment: str) -> dict[str, dict[str, Any]]:
    """Dashboards of the environment by name."""
    maps = [plain(r.inputs) for r in resources_of(environment) if r.typ.endswith(":ConfigMap")]
    found = [one for one in maps if one["metadata"]["labels"].get("grafana_dashboard")]
    return {name.removesuffix(".json"): json.loads(text) for one in found for name, text in one["data"].items()}


def rules(known: set[str], folder: Path) -> dict[str, board_rules.Rule]:
    return {
        "unit": board_rules.unit,
        "legend": board_rules.legend,
        "description": board_rules.description,
        "source": board_rules.source,
        "interval": board_rules.interval,
        "parsed": board_rules.parsed(folder),
        "existing": board_rules.existing(known),
        "owner": board_rules.owner,
    }


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_dashboards_keep_the_eight_rules(environment: str, known: set[str], tmp_path: Path) -> None:
    every, found = rules(known, tmp_path), boards_of(environment)
    assert len(every) == 8 and len(found) > 15
    reads = every.pop("parsed")  # once for all dashboards: promtool takes a second
    panels = [
        {**one, "title": f"{board['title']}: {one['title']}"} for board in found.values() for one in board["panels"]
    ]
    assert [*reads({"title": environment, "panels": panels})] == []
    assert [mistake for board in found.values() for rule in every.values() for mistake in rule(board)] == []


def _target(board: dict[str, Any]) -> dict[str, Any]:
    return board["panels"][2]["targets"][0]


def _change(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda board: _target(board).update(fields)


PLANTED: dict[str, list[tuple[str, Callable[[dict[str, Any]], None]]]] = {
    "unit": [
        ("no unit", lambda board: board["panels"][2]["fieldConfig"]["defaults"].pop("unit")),
        ("second is no unit", lambda board: board["panels"][2]["fieldConfig"]["defaults"].update(unit="second")),
    ],
    "legend": [
        ("no legend", lambda board: _target(board).pop("legendFormat")),
        ("no legend", _change(legendFormat="__auto")),
        ("lacks model", _change(expr="sum by (model) (router_requests_total)", legendFormat="requests")),
        ("no series has pod", _change(expr="sum by (model) (router_requests_total)", legendFormat="{{model}} {{pod}}")),
    ],
    "description": [
        ("no description", lambda board: board["panels"][2].pop("description")),
        ("no description", lambda board: board["panels"][2].update(description="Requests")),
        ("no description", lambda board: board.pop("description")),
    ],
    "source": [
        ("not a variable", lambda board: _target(board).update(datasource={"type": "prometheus", "uid": "P1809F7CD"})),
        ("not a variable", lambda board: board["panels"][2].pop("datasource")),
        ("not a variable", lambda board: board["templating"]["list"].clear()),
    ],
    "interval": [
        ("[5m]", _change(expr="sum(rate(router_requests_total[5m]))")),
        ("[1h]", _change(expr="sum(increase(router_requests_total[1h]))")),
    ],
    "parsed": [
        ("cannot read", _change(expr="sum by (status (rate(router_requests_total[$__rate_interval]))")),
        ("cannot read", _change(expr="rate(router_requests_total)")),
        ("cannot read", _change(expr="")),
    ],
    "existing": [
        ("router_reqests_total is not scraped", _change(expr="sum(rate(router_reqests_total[$__rate_interval]))")),
        ("no metric", _change(expr="1 + 1")),
        ("no metric", lambda board: board["panels"][2]["targets"].clear()),
    ],
    "owner": [
        ("no owner", lambda board: board.update(tags=["cogniforge"])),
        ("no owner", lambda board: board.update(tags=["owner:"])),
    ],
}
CASES = [(rule, said, plant) for rule, cases in PLANTED.items() for said, plant in cases]


@pytest.mark.parametrize(("rule", "said", "plant"), CASES, ids=[f"{rule} {said}" for rule, said, _ in CASES])
def test_a_planted_mistake_is_found(
    rule: str, said: str, plant: Callable[[dict[str, Any]], None], known: set[str], tmp_path: Path
) -> None:
    every, board = rules(known, tmp_path), copy.deepcopy(boards_of("local")["router"])
    plant(board)
    mistakes = [*every[rule](board)]
    assert mistakes
    assert [one for one in mistakes if said not in one or board["title"] not in one] == []


def _titles(board: dict[str, Any]) -> list[str]:
    return [panel["title"] for panel in board["panels"]]


def test_every_service_and_every_server_with_metrics_has_a_dashboard() -> None:
    wanted = {"greeter", *(board.name for board in boards_data.BOARDS), "overview", "node", "cost", "serving"}
    wanted.add(boards_traces.BOARD.name)
    services = {name for name, record in SERVICES.items() if not record.asked}
    assert boards_of("local").keys() >= wanted | services
    assert {"gpus", "serving"} <= boards_of("prod").keys() and "gpus" not in boards_of("local")


def test_opa_has_a_dashboard_and_alerts_where_it_decides() -> None:
    assert boards_security.POLICY.name in boards_of("local")
    (rules,) = [plain(r.inputs) for r in resources_of("local") if plain(r.inputs).get("kind") == "PrometheusRule"]
    raised = {rule.get("alert") for group in rules["spec"]["groups"] for rule in group["rules"]}
    wanted = {one.name for one in alerts_security.ALERTS if one.part == alerts_security.OPA}
    assert wanted and wanted <= raised


def test_a_managed_service_has_no_dashboard_of_a_server_of_ours() -> None:
    assert not {"postgres", "kafka", "object-store"} & boards_of("prod").keys()
    assert "nats" in boards_of("prod")


def test_a_services_dashboard_follows_from_its_record() -> None:
    assert "Dead letters" in _titles(boards_of("local")["billing"]) and "Dead letters" not in _titles(
        boards_of("local")["router"]
    )
    assert "Lost events per second" in _titles(boards_of("local")["router"])
    assert "Time until the login for PostgreSQL ends" not in _titles(boards_of("local")["embeddings"])
    assert _titles(boards_of("local")["greeter"]) == [
        *("Requests per second, by status", "Latency", "Error budgets left", "Pace at which error budgets are used"),
        *("CPU time", "Memory"),
    ]


def test_panels_of_what_is_not_there_are_left_out() -> None:
    assert "Servers of KServe" in _titles(boards_of("prod")["serving"])
    assert "Servers of KServe" not in _titles(boards_of("local")["serving"])


def _names() -> Iterator[str]:
    for board in dashboards.chosen(frozenset(), SERVICES.values()):
        yield board.name


def test_an_environment_without_parts_has_those_that_every_environment_needs() -> None:
    assert [*_names()] == [boards.OVERVIEW.name, boards.NODE.name]


def _through_the_model(board: dict[str, Any]) -> dict[str, Any]:
    """The board after the types of Grafana's foundation SDK have read and written it: unknown fields are lost."""
    register_default_plugins()
    found = json.loads(json.dumps(Dashboard.from_json(copy.deepcopy(board)), cls=JSONEncoder))
    for one in found["panels"]:
        if not one["fieldConfig"]["defaults"]["custom"]:
            del one["fieldConfig"]["defaults"]["custom"]  # the SDK writes an empty one
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_grafanas_model_has_every_field_of_every_dashboard(environment: str) -> None:
    assert {name: _through_the_model(board) for name, board in boards_of(environment).items()} == boards_of(environment)


def test_a_field_that_grafanas_model_lacks_is_noticed() -> None:
    for place in ("targets", "datasource", "gridPos", "options"):
        board = copy.deepcopy(boards_of("local")["router"])
        found = board["panels"][2][place]
        (found[0] if isinstance(found, list) else found)["legendFormatt"] = "x"
        assert _through_the_model(board) != board, place


def test_the_portal_receives_what_grafana_shows() -> None:
    parts, records = frozenset((*SERVICES, *(board.part for board in _OF_SERVERS), "data")), SERVICES.values()
    grafana = dashboards.dashboards("n", "team", parts, records)
    shown = {name: board for folder in grafana.values() for name, board in folder.items()}
    given = portal_boards("n", "team", parts, records)
    assert sorted(board["name"] for board in given) == sorted(shown) and len(given) > 15
    for board in given:
        drawn = shown[board["name"]]
        assert (board["title"], board["description"]) == (drawn["title"], drawn["description"])
        assert f"owner:{board['owner']}" in drawn["tags"] and board["name"] in grafana[board["folder"]]
        assert [
            (one["title"], one["description"], one["unit"], [(q["query"], q["legend"]) for q in one["queries"]])
            for one in board["panels"]
        ] == [
            (
                one["title"],
                one["description"],
                one["fieldConfig"]["defaults"]["unit"],
                [(target["expr"], target["legendFormat"]) for target in one["targets"]],
            )
            for one in drawn["panels"]
        ]
    assert json.loads(json.dumps(given)) == given
    assert len(json.dumps(given)) < 100_000, "an environment variable holds 131,072 bytes"


def test_panels_lie_side_by_side_and_each_has_its_number() -> None:
    for board in boards_of("local").values():
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
        numbers = [panel["id"] for panel in board["panels"]]
        assert len({*places}) == len(places) == len({*numbers})
        assert all(x in (0, 12) for x, _ in places)


def test_addresses_of_dashboards_are_unique_and_fit_grafanas_limit() -> None:
    found = [board["uid"] for board in boards_of("local").values()]
    assert len({*found}) == len(found)
    assert max(map(len, found)) <= 40


def test_dashboards_fit_a_config_map() -> None:
    assert sum(len(json.dumps(board, indent=1)) for board in boards_of("local").values()) < 2**20


def _pods_and_claims(environment: str) -> tuple[set[str], set[str]]:
    """Names of pods, and of the claims of their volumes, as Kubernetes makes them for the environment's workloads."""
    pods, claims = set[str](), set[str]()
    for one in resources_of(environment):
        kind, content = one.typ.rpartition(":")[2], plain(one.inputs)
        if kind == "StatefulSet":
            name = f"{content['metadata']['name']}-0"
            pods.add(name)
            claims |= {
                f"{claim['metadata']['name']}-{name}" for claim in content["spec"].get("volumeClaimTemplates", ())
            }
        elif kind == "Deployment":
            pods.add(f"{content['metadata']['name']}-75675f5897-x2vlq")
    return pods, claims


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_panels_of_pods_and_volumes_choose_those_of_the_board(environment: str) -> None:
    pods, claims = _pods_and_claims(environment)
    chosen: dict[str, set[str]] = {}
    for name, board in boards_of(environment).items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                for label, names in (("pod", pods), ("persistentvolumeclaim", claims)):
                    for pattern in re.findall(rf'\b{label}=~"([^"]*)"', target["expr"]):
                        found = {one for one in names if re.fullmatch(pattern, one)}
                        assert found, f"{name} / {panel['title']}: {pattern} matches no {label}"
                        if label == "pod":
                            chosen.setdefault(name, set()).update(found)
    assert len(chosen) > 8
    assert {name: len(found) for name, found in chosen.items() if len(found) > 1} == {}
