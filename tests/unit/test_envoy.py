"""The rendering of a gateway intent for Envoy, as a pure function."""

from __future__ import annotations

from typing import Any

import pytest

from components.mesh import envoy
from components.mesh.routes import Backend, GatewayIntent, Rates, Route
from tests.envoy_server import MEMORY_BYTES

INTENT = GatewayIntent(
    hosts=("localhost", "api.example.com"),
    port=8443,
    routes=(
        Route("/v1/", Backend("router", "router.cogniforge", 8080), 300, 60, 1024),
        Route("/v1/special/", Backend("special", "special.cogniforge", 8080), 30, 10, 1024),
    ),
    rates=Rates((500, 1000), (2000, 4000)),
)


def _manager(config: dict[str, Any]) -> dict[str, Any]:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def test_only_the_configured_hosts_are_served() -> None:
    domains = _manager(envoy.render(INTENT, {}, MEMORY_BYTES))["route_config"]["virtual_hosts"][0]["domains"]
    assert domains == ["localhost", "localhost:*", "api.example.com", "api.example.com:*"]


def test_keys_are_hidden_from_the_services() -> None:
    filters = {
        f["name"]: f["typed_config"]
        for f in _manager(envoy.render(INTENT, {"default": "k"}, MEMORY_BYTES))["http_filters"]
    }
    assert filters["envoy.filters.http.api_key_auth"]["forwarding"]["hide_credentials"] is True


def test_the_admin_port_stays_on_loopback() -> None:
    config = envoy.render(INTENT, {}, MEMORY_BYTES)
    assert config["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


@pytest.mark.parametrize("rate", [1, 7, 10, 999, 100_000])
def test_the_token_bucket_gives_the_configured_rate(rate: int) -> None:
    intent = GatewayIntent(INTENT.hosts, 443, INTENT.routes, Rates((rate, rate), (rate, rate)))
    filters = {f["name"]: f["typed_config"] for f in _manager(envoy.render(intent, {}, MEMORY_BYTES))["http_filters"]}
    bucket = filters["envoy.filters.http.local_ratelimit"]["descriptors"][1]["token_bucket"]
    per_second = bucket["tokens_per_fill"] / float(bucket["fill_interval"].rstrip("s"))
    assert per_second == pytest.approx(rate, rel=0.001)
