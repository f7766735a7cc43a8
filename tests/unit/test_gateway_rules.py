"""Policies for the gateway's routes, tested with the platform's own routes and with violations."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from components.config import parse as config_parse
from components.mesh import entrance, kong, kong_gateway
from components.mesh.routes import GatewayIntent
from policies.crossguard import gateway_rules
from policies.crossguard.rule import Resource
from tests.stack_files import stack_file

ROUTE, PLUGIN = gateway_rules.RULES


def _intent(environment: str) -> GatewayIntent:
    return entrance.intent(config_parse.parse(stack_file(environment)))


def _resource(kind: str, properties: dict[str, Any]) -> Resource:
    return Resource(kind, "one", "urn:pulumi:prod::cogniforge::x::one", properties)


def _route(intent: GatewayIntent, route: kong.KongRoute) -> Resource:
    annotations = {
        kong_gateway.KEYS_ASKED_BY: kong_gateway.keys_asked_by(intent, route),
        "konghq.com/plugins": ",".join(plugin.name for plugin in route.plugins),
    }
    properties = {"metadata": {"annotations": annotations}, "spec": kong_gateway.route_spec(intent, route)}
    return _resource("kubernetes:gateway.networking.k8s.io/v1:HTTPRoute", properties)


@pytest.mark.parametrize("services_ask", [True, False])
@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_every_route_of_the_platform_requires_a_key(environment: str, services_ask: bool) -> None:
    intent = dataclasses.replace(_intent(environment), services_ask=services_ask)
    for route in kong.routes(intent):
        assert not list(ROUTE.violations(_route(intent, route))), route.name
        for plugin in route.plugins:
            made = _resource("kubernetes:configuration.konghq.com/v1:KongPlugin", {"plugin": plugin.plugin})
            assert not list(PLUGIN.violations(made))


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"cogniforge.dev/keys-asked-by": "gateway", "konghq.com/plugins": "gateway-rate-limiting"},
        {"cogniforge.dev/keys-asked-by": "nobody", "konghq.com/plugins": "gateway-ai-proxy"},
        {"cogniforge.dev/keys-asked-by": "service", "konghq.com/plugins": "gateway-ai-proxy"},
    ],
)
def test_a_route_without_authentication_is_refused(annotations: dict[str, str]) -> None:
    spec = {"rules": [{"backendRefs": [{"name": "model-demo", "port": 8000}]}]}
    properties = {"metadata": {"annotations": annotations}, "spec": spec}
    assert list(ROUTE.violations(_resource("kubernetes:gateway.networking.k8s.io/v1:HTTPRoute", properties)))


@pytest.mark.parametrize("plugin", ["ai-proxy", "ai-proxy-advanced", "aws-lambda", "azure-functions"])
def test_a_plugin_that_calls_an_external_host_is_refused(plugin: str) -> None:
    assert list(PLUGIN.violations(_resource("kubernetes:configuration.konghq.com/v1:KongPlugin", {"plugin": plugin})))
