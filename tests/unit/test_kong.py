"""Kong's declarative configuration: valid according to Kong's schema, and consistent with the intent."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.mesh import kong, kong_gateway
from components.mesh.routes import Backend, Cors, Document, GatewayIntent, Oidc, Rates, Route
from tests import upstream

ROUTER = Backend("router", "router.cogniforge", 8080)
ROUTE = Route("/v1/", ROUTER, 300, 60, 16 * 2**20)
NAMES = Route("/v1/models", ROUTER, 300, 60, 2**20, encoded_slash=True)
RATES = Rates((500, 1000), (2000, 4000))
INTENT = GatewayIntent(
    ("api.example.com", "127.0.0.1"),
    443,
    (ROUTE, NAMES),
    RATES,
    cors=Cors(("https://app.example.com",), 600),
    about='{"name": "x"}',
    documents=(Document("/openapi/router.json", ROUTER, "/openapi.json"),),
)


@functools.cache
def _validator() -> Any:
    [schema] = upstream.documents("kong-deck")
    return jsonschema.Draft4Validator(schema)


def mistakes(config: dict[str, Any]) -> list[str]:
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in _validator().iter_errors(config)]


names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


@given(
    hosts=st.lists(st.from_regex(r"[a-z]{1,10}\.[a-z]{2,5}", fullmatch=True), min_size=1, max_size=4, unique=True),
    keys=st.dictionaries(names, st.text("abcXYZ019-", min_size=8, max_size=40), max_size=5),
    body=st.integers(1, 2**30),
    rate=st.integers(1, 100_000),
    oidc=st.booleans(),
    services_ask=st.booleans(),
)
def test_every_intent_gives_a_valid_configuration(
    hosts: list[str], keys: dict[str, str], body: int, rate: int, oidc: bool, services_ask: bool
) -> None:
    provider = Oidc("https://login.example.com/realms/a", "api") if oidc else None
    routes = (dataclasses.replace(ROUTE, max_body_bytes=body), NAMES)
    rates = Rates((rate, rate), (rate, rate))
    intent = dataclasses.replace(
        INTENT, hosts=tuple(hosts), routes=routes, rates=rates, oidc=provider, services_ask=services_ask
    )
    assert mistakes(kong.declarative(intent, keys)) == []


def test_an_unknown_field_is_refused() -> None:
    config = kong.declarative(INTENT, {})
    config["services"][0]["prot"] = "http"
    assert any("prot" in mistake for mistake in mistakes(config))


def service() -> dict[str, Any]:
    services = kong.declarative(INTENT, {"default": "cf-key"})["services"]
    return next(service for service in services if service["name"] == "router-0")


def test_a_stalled_stream_is_cut_off() -> None:
    assert service()["read_timeout"] == 60_000


def test_addresses_are_no_hosts() -> None:
    assert service()["routes"][0]["hosts"] == ["api.example.com"]


def test_the_key_is_taken_in_both_forms_and_hidden() -> None:
    config = kong.declarative(INTENT, {"default": "cf-key"})
    assert config["consumers"][0]["keyauth_credentials"] == [{"key": "Bearer cf-key"}, {"key": "cf-key"}]
    plugin = next(p for p in service()["plugins"] if p["name"] == "key-auth")
    assert plugin["config"]["hide_credentials"]


def test_with_oidc_there_are_no_keys() -> None:
    intent = dataclasses.replace(INTENT, oidc=Oidc("https://login.example.com", "api"))
    config = kong.declarative(intent, {"default": "cf-key"})
    assert "consumers" not in config
    assert "key-auth" not in {p["name"] for s in config["services"] for p in s["plugins"]}


def test_a_callers_own_client_id_is_removed() -> None:
    plugin = next(p for p in service()["plugins"] if p["name"] == "request-transformer")
    assert plugin["config"]["remove"]["headers"] == [kong.CLIENT_HEADER]


def chosen(path: str) -> dict[str, Any]:
    """Route that Kong selects: regular expressions by priority, then the longest prefix (Kong's documentation)."""
    found: list[tuple[bool, int, dict[str, Any]]] = []
    for service in kong.declarative(INTENT, {})["services"]:
        for route in service["routes"]:
            (pattern,) = route["paths"]
            if pattern.startswith("~"):
                if re.match(pattern[1:], path):
                    found.append((True, route["regex_priority"], service))
            elif path.startswith(pattern):
                found.append((False, len(pattern), service))
    return max(found, key=lambda one: one[:2])[2]


def _refusal(service: dict[str, Any]) -> dict[str, Any] | None:
    return next((p["config"] for p in service["plugins"] if p["name"] == "request-termination"), None)


@pytest.mark.parametrize("path", ["/v1/models/org%2Fmodel", "/v1/models/org%2fmodel", "/v1/models/demo", "/v1/x"])
def test_kong_passes_names_with_an_encoded_slash_on_where_a_service_decodes_them(path: str) -> None:
    assert _refusal(chosen(path)) is None


@pytest.mark.parametrize(
    "path",
    [
        *("/v1%2Fmodels", "/v1/files%2F..%2Fadmin", "/v1/models/a%2F..%2Fb", "/v1/models/a%2F", "/v1/models/%2Fa"),
        *("/v1/models/a%5Cb", "/v1/models/a%2F%2Fb", "/v1/models/a%2F%2e%2e%2Fb", "/a%2fb"),
    ],
)
def test_kong_refuses_an_encoded_slash_elsewhere_or_beside_dots(path: str) -> None:
    refusal = _refusal(chosen(path))
    assert refusal is not None
    assert refusal["status_code"] == 400
    assert json.loads(refusal["body"])["error"]["code"] == "invalid_path"


def test_kong_answers_at_its_root_and_where_nothing_is() -> None:
    about, nothing = _refusal(chosen("/")), _refusal(chosen("/metrics"))
    assert about is not None
    assert nothing is not None
    assert about["body"] == INTENT.about
    assert nothing["status_code"] == 404
    assert json.loads(nothing["body"])["error"]["code"] == "unknown_url"


def test_no_route_reaches_a_service_without_a_key() -> None:
    for service in kong.declarative(INTENT, {"default": "cf-key"})["services"]:
        names = {plugin["name"] for plugin in service["plugins"]}
        assert names & {"key-auth", "request-termination"}, service["name"]


def test_kong_hides_internal_servers() -> None:
    plugin = next(p for p in service()["plugins"] if p["name"] == "response-transformer")
    assert "x-router-target" in plugin["config"]["remove"]["headers"]
    assert kong_gateway.environment(INTENT)["headers"] == "off"


def test_kong_logs_no_queries() -> None:
    settings = kong_gateway.environment(INTENT)
    (name,) = re.findall(r"^(\w+) ", settings["nginx_http_log_format"])
    assert settings["proxy_access_log"] == f"/dev/stdout {name}"
    logged = set(re.findall(r"\$(\w+)", settings["nginx_http_log_format"]))
    assert logged <= {"time_iso8601", "http_x_request_id", "request_method", "uri", "status", "request_time"}


def test_bodies_go_through_kong_before_they_are_whole() -> None:
    routes = [route for service in kong.declarative(INTENT, {})["services"] for route in service["routes"]]
    assert not any(route["request_buffering"] for route in routes)


def test_kong_limits_keys_and_addresses_each_by_themselves() -> None:
    plugin = next(p for p in service()["plugins"] if p["name"] == "rate-limiting")
    assert (plugin["config"]["limit_by"], plugin["config"]["header_name"]) == ("header", "authorization")
    assert kong_gateway.environment(INTENT)["nginx_http_limit_req_zone"].startswith("$binary_remote_addr ")


def test_only_configured_pages_may_read_answers() -> None:
    plugin = next(p for p in service()["plugins"] if p["name"] == "cors")
    assert plugin["config"]["origins"] == ["https://app.example.com"]
    without = kong.declarative(dataclasses.replace(INTENT, cors=None), {})
    assert "cors" not in {p["name"] for s in without["services"] for p in s["plugins"]}
