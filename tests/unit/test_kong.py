"""Kong's declarative configuration: valid by its own schema, and it says what the intent says."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.mesh import kong
from components.mesh.routes import Backend, ExternalModel, GatewayIntent, Oidc, Route

SCHEMA = Path(os.environ.get("PLATFORM_SCHEMAS", "../shared/schemas")) / "crds" / "kong-deck" / "kong_json_schema.json"
ROUTE = Route("/v1/", Backend("router", "router.cogniforge", 8080), 300, 60)
INTENT = GatewayIntent(("api.example.com", "127.0.0.1"), 443, (ROUTE,), 16 * 2**20, 500, 1000)
EXTERNAL = ExternalModel("claude", "anthropic", "claude-sonnet", "anthropic-key")


@functools.cache
def _validator() -> Any:
    if not SCHEMA.exists():
        pytest.skip(f"Kong's schema is absent: {SCHEMA} (set PLATFORM_SCHEMAS)")
    return jsonschema.Draft4Validator(json.loads(SCHEMA.read_text()))


def mistakes(config: dict[str, Any]) -> list[str]:
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in _validator().iter_errors(config)]


names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


@given(
    hosts=st.lists(st.from_regex(r"[a-z]{1,10}\.[a-z]{2,5}", fullmatch=True), min_size=1, max_size=4, unique=True),
    keys=st.dictionaries(names, st.text("abcXYZ019-", min_size=8, max_size=40), max_size=5),
    body=st.integers(1, 2**30),
    rate=st.integers(1, 100_000),
    oidc=st.booleans(),
    external=st.booleans(),
)
def test_every_intent_gives_a_valid_configuration(
    hosts: list[str], keys: dict[str, str], body: int, rate: int, oidc: bool, external: bool
) -> None:
    extra = (dataclasses.replace(ROUTE, prefix="/claude/", external=EXTERNAL),) if external else ()
    provider = Oidc("https://login.example.com/realms/a", "api") if oidc else None
    intent = GatewayIntent(tuple(hosts), 443, (ROUTE, *extra), body, rate, rate, provider)
    assert mistakes(kong.declarative(intent, keys)) == []


def test_an_unknown_field_is_refused() -> None:
    config = kong.declarative(INTENT, {})
    config["services"][0]["prot"] = "http"
    assert any("prot" in mistake for mistake in mistakes(config))


def service() -> dict[str, Any]:
    return kong.declarative(INTENT, {"default": "cf-key"})["services"][0]


def test_a_stalled_stream_is_cut_off() -> None:
    assert service()["read_timeout"] == 60_000


def test_addresses_are_no_hosts() -> None:
    assert service()["routes"][0]["hosts"] == ["api.example.com"]


def test_the_key_is_taken_in_both_forms_and_hidden() -> None:
    config = kong.declarative(INTENT, {"default": "cf-key"})
    assert config["consumers"][0]["keyauth_credentials"] == [{"key": "Bearer cf-key"}, {"key": "cf-key"}]
    plugin = next(p for p in config["services"][0]["plugins"] if p["name"] == "key-auth")
    assert plugin["config"]["hide_credentials"]


def test_with_oidc_there_are_no_keys() -> None:
    intent = dataclasses.replace(INTENT, oidc=Oidc("https://login.example.com", "api"))
    config = kong.declarative(intent, {"default": "cf-key"})
    assert "consumers" not in config
    assert "key-auth" not in {p["name"] for p in config["services"][0]["plugins"]}


def test_a_callers_own_client_id_is_removed() -> None:
    plugin = next(p for p in service()["plugins"] if p["name"] == "request-transformer")
    assert plugin["config"]["remove"]["headers"] == [kong.CLIENT_HEADER]
