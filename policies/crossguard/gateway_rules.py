"""Rules for the Kong gateway: every route requires a key, and no plugin calls external services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.crossguard.rule import UNKNOWN, Area, Resource, Rule, known

_ROUTES = ("kubernetes:gateway.networking.k8s.io/v1:HTTPRoute",)
_PLUGINS = tuple(f"kubernetes:configuration.konghq.com/v1:{kind}" for kind in ("KongPlugin", "KongClusterPlugin"))
_ASKED_BY = "cogniforge.dev/keys-asked-by"
_AUTHENTICATION = ("key-auth", "openid-connect", "jwt")
_ASKING = {"router", "user", "prompt", "guardrails", "retriever", "billing", "audit"}
"""Services that check API keys themselves."""
_OUTWARD = ("ai-", "aws-lambda", "azure-functions", "forward-proxy", "http-callout", "datakit")
"""Plugins that forward requests to external providers with the platform's credential."""


def _annotations(resource: Resource) -> Mapping[str, Any]:
    return (resource.properties.get("metadata") or {}).get("annotations") or {}


def _used(resource: Resource) -> list[str]:
    """Names of a route's plugins, without the prefix of the platform's objects."""
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
    yield f"the route to {named} has neither an authentication plugin nor an annotation of a service that checks keys"


def _outward(resource: Resource) -> Iterator[str]:
    plugin = known(resource.properties, "plugin")
    if plugin is not UNKNOWN and str(plugin).startswith(_OUTWARD):
        yield f"{plugin} uses the platform's credential without budget, Guardrails or metering"


RULES = (
    Rule(
        "gateway-route-asks-for-a-key", Area.EXPOSURE, "Every route of the gateway requires a key.",
        f"use an authentication plugin, or a service that checks keys, and set the annotation {_ASKED_BY}",
        _ROUTES, _asks,
    ),
    Rule(
        "gateway-asks-nobody-outside", Area.EXPOSURE, "Only the Router calls external model providers.",
        "configure the model in the Router", _PLUGINS, _outward,
    ),
)  # fmt: skip
