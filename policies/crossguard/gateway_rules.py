"""Rules on the cloud's gateway: nobody is answered without a key, and it asks nobody outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.crossguard.rule import UNKNOWN, Area, Resource, Rule, known

_ROUTES = ("kubernetes:gateway.networking.k8s.io/v1:HTTPRoute",)
_PLUGINS = tuple(f"kubernetes:configuration.konghq.com/v1:{kind}" for kind in ("KongPlugin", "KongClusterPlugin"))
_ASKED_BY = "cogniforge.dev/keys-asked-by"
_AUTHENTICATION = ("key-auth", "openid-connect", "jwt")
_ASKING = {"router", "user", "prompt", "guardrails", "retriever", "billing", "audit"}
"""Services that look at a caller's key themselves."""
_OUTWARD = ("ai-", "aws-lambda", "azure-functions", "forward-proxy", "http-callout", "datakit")
"""Plugins that answer with what somebody else says, on the platform's credential."""


def _annotations(resource: Resource) -> Mapping[str, Any]:
    return (resource.properties.get("metadata") or {}).get("annotations") or {}


def _used(resource: Resource) -> list[str]:
    """Plugins of a route, without the prefix that the platform's objects have."""
    names = str(_annotations(resource).get("konghq.com/plugins", "")).split(",")
    return [name.strip().removeprefix("gateway-") for name in names]


def _asks(resource: Resource) -> Iterator[str]:
    asked_by, used = _annotations(resource).get(_ASKED_BY), _used(resource)
    rules = (resource.properties.get("spec") or {}).get("rules") or []
    backends = {ref.get("name") for rule in rules for ref in rule.get("backendRefs") or []}
    if asked_by == "gateway" and any(name.startswith(_AUTHENTICATION) for name in used):
        return
    if asked_by == "nobody" and any(name.startswith("request-termination") for name in used):
        return
    if asked_by == "service" and backends and backends <= _ASKING:
        return
    named = ", ".join(sorted(map(str, backends))) or "nothing"
    yield f"nobody asks for a key on the route to {named}, as far as its annotation and its plugins tell"


def _outward(resource: Resource) -> Iterator[str]:
    plugin = known(resource.properties, "plugin")
    if plugin is not UNKNOWN and str(plugin).startswith(_OUTWARD):
        yield f"{plugin} answers on the platform's credential, without a budget, Guardrails or metering"


RULES = (
    Rule(
        "gateway-route-asks-for-a-key", Area.EXPOSURE, "No route of the gateway answers without a key.",
        f"use an authentication plugin, or a service that asks, and say so in the annotation {_ASKED_BY}",
        _ROUTES, _asks,
    ),
    Rule(
        "gateway-asks-nobody-outside", Area.EXPOSURE, "Models of other providers are asked by the Router alone.",
        "make the model a target of the Router", _PLUGINS, _outward,
    ),
)  # fmt: skip
