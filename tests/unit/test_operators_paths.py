"""Operators' paths in the cloud are not public: they have a second listener, or are limited to named networks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from components.config import parse as config_parse
from components.mesh import entrance, kong
from components.mesh.routes import OPERATORS_DOCUMENTS, Backend, Document, GatewayIntent, Operators, Rates, Route
from service_images.ports import free_port
from tests.envoy_server import Running, gateway
from tests.stack_files import stack_file

WAYS = [
    *("/v1/admin", "/v1/admin/routes", "/v1/admin/state", "/v1/admin/routes/org%2Fmodel", "/v1//admin/state"),
    *("/openapi.json", "/docs", "//docs", "/x/../docs", "/%64ocs", "/./openapi.json"),
    *("/v1/x/../admin/state", "/v1/%61dmin/state", "/v1/admin/", "//v1/admin/state", "/v1/./admin", "/v1/%2e/admin/x"),
]

PUBLIC = ["/v1/chat/completions", "/openapi/router.json"]


def intent(operators: Operators) -> GatewayIntent:
    backend = Backend("router", "127.0.0.1", free_port())
    routes = [Route(prefix, backend, 10, 5, 1024) for prefix in ("/v1/", "/v1/admin")]
    names = Route("/v1/admin/routes", backend, 10, 5, 1024, encoded_slash=True)
    rates = Rates((10_000, 10_000), (10_000, 10_000))
    documents = tuple(Document(path, backend, there, True) for path, there in OPERATORS_DOCUMENTS.items())
    return GatewayIntent(
        ("localhost",),
        443,
        (*routes, names),
        rates,
        services_ask=True,
        documents=(Document("/openapi/router.json", backend, "/openapi.json"), *documents),
        operators=operators,
    )


def statuses(port: int) -> dict[str, int]:
    """Status 503 means that the gateway has forwarded the request, since there is no backend."""
    running = f"http://127.0.0.1:{port}"
    with httpx.Client(headers={"host": "localhost"}, trust_env=False) as client:
        found: dict[str, int] = {}
        for way in WAYS:
            url = httpx.URL(running).copy_with(raw_path=way.encode())
            found[way] = client.get(url).status_code
        for way in PUBLIC:
            found[way] = client.get(f"{running}{way}").status_code
    return found


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(intent(Operators(public=False)), tmp_path_factory.mktemp("closed")) as found:
        yield found


def test_operators_paths_are_not_there_for_the_public(closed: Running) -> None:
    found = statuses(closed.port)
    assert {found.pop(way) for way in PUBLIC} == {503}
    assert set(found.values()) == {404}, found


def test_the_second_listener_has_them(closed: Running) -> None:
    assert set(statuses(closed.operators_port).values()) == {503}


@pytest.mark.parametrize(("network", "status"), [("127.0.0.0/8", 503), ("10.0.0.0/8", 403)])
def test_named_networks_reach_them_at_the_public_listener(tmp_path: Path, network: str, status: int) -> None:
    with gateway(intent(Operators(public=False, addresses=(network,))), tmp_path) as found:
        seen = statuses(found.port)
    assert {seen.pop(way) for way in PUBLIC} == {503}
    assert set(seen.values()) == {status}, seen


@pytest.mark.parametrize(
    ("environment", "public"), [("local", True), ("dev", False), ("staging", False), ("prod", False)]
)
def test_they_are_public_on_this_machine_only(environment: str, public: bool) -> None:
    config = config_parse.parse(stack_file(environment))
    assert entrance.intent(config).operators.public is public


@pytest.mark.parametrize("path", ["/v1/admin", "/v1/admin/state", "/v1/admin/routes/org%2Fmodel", "/v1/admin/routes"])
def test_kong_refuses_them_before_any_other_route(path: str) -> None:
    matching = [
        route
        for route in kong.routes(intent(Operators(public=False)))
        if route.match is kong.Match.REGEX and re.match(route.path, path)
    ]
    first = max(matching, key=lambda route: route.priority)
    assert (first.name, first.refuses) == ("operators", True)


def test_kong_omits_operators_documents_if_they_are_unreachable() -> None:
    served = {route.path for route in kong.routes(intent(Operators(public=False)))}
    assert "/openapi/router.json" in served
    assert not served & set(OPERATORS_DOCUMENTS)


def test_kong_lets_named_networks_in() -> None:
    routes = kong.routes(intent(Operators(public=False, addresses=("10.1.0.0/16",))))
    below = [r for r in routes if (r.path.startswith("/v1/admin") or r.path in OPERATORS_DOCUMENTS) and not r.refuses]
    assert len(below) == 3 + len(OPERATORS_DOCUMENTS)
    for route in below:
        plugin = next(p for p in route.plugins if p.plugin == "ip-restriction")
        assert plugin.config["allow"] == ["10.1.0.0/16"]
    assert all(p.plugin != "ip-restriction" for r in routes if r.path == "/v1/" for p in r.plugins)


def test_kong_and_the_default_are_public_where_asked() -> None:
    routes = kong.routes(dataclasses.replace(intent(Operators()), operators=Operators(public=True)))
    assert "operators" not in {route.name for route in routes}
