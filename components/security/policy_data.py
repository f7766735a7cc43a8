"""Data of the gateway's policies, derived from services' records and documents and from the configuration. Pure."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from components import sources
from components.config import grafana
from components.config.custom import Keys
from components.config.opa import Hours, Opa, TenantRules
from components.config.platform import PlatformConfig
from components.mesh.routes import GatewayIntent
from components.security import keycloak
from components.services.record import ServiceRecord
from components.services.registry import FRONT

Json = dict[str, Any]
PART = "opa"
GRPC_PORT, HTTP_PORT = 9191, 8080
"""TCP ports of OPA: ext_authz, and health with metrics."""
ADMIN = "admin"
"""The scope of operators. `kit.directory.Scope` has all scopes."""
VARIABLE = "*"
_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """An operation at the gateway."""

    method: str
    path: str
    """Its variables are segments in braces."""
    service: str
    scopes: tuple[str, ...] | None
    """A key needs one of them; empty means that any key will do, None that no key is needed."""
    names_model: bool = False
    """Whether the body names a model."""

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments, with "*" for a variable."""
        return tuple(VARIABLE if part.startswith("{") else part for part in self.path.strip("/").split("/"))

    @property
    def operators(self) -> bool:
        """Whether only operators may call it."""
        return self.scopes == (ADMIN,)


def operations(config: PlatformConfig, intent: GatewayIntent) -> list[Operation]:
    """All operations of bundled services that the gateway forwards, and its own. Templates with fewer variables first.

    Services of the user's own are not among them: their documents are not known here.
    """
    found = [
        operation
        for record in config.around.records.values()
        if not record.custom
        for operation in _documented(record)
        if _owner(intent, operation.path) == record.name
    ]
    found += [
        Operation("GET", one.path, one.backend.name, (ADMIN,) if one.operators else None) for one in intent.documents
    ]
    if intent.about:
        found.append(Operation("GET", "/", "gateway", None))
    return sorted(found, key=lambda one: (one.segments.count(VARIABLE), one.path, one.method))


def _documented(record: ServiceRecord) -> Iterator[Operation]:
    document = _document(record.name)
    for path, methods in cast("Mapping[str, Mapping[str, Any]]", document["paths"]).items():
        for method in _METHODS:
            if method in methods:
                security = methods[method].get("security", document.get("security"))
                scopes = _scopes(security)
                named = record is FRONT and method == "post" and scopes != (ADMIN,)
                yield Operation(method.upper(), path, record.name, scopes, named)


@functools.cache
def _document(service: str) -> Json:
    return json.loads((sources.SERVICE_IMAGES / service / "openapi.json").read_text())


def _scopes(security: list[dict[str, list[str]]] | None) -> tuple[str, ...] | None:
    if not security:
        return None
    return tuple(sorted({scope for way in security for scopes in way.values() for scope in scopes}))


def _owner(intent: GatewayIntent, path: str) -> str:
    """The service to which the gateway forwards a path: the one with the longest prefix."""
    fitting = [one for one in intent.routes if f"{path}/".startswith(f"{one.prefix.rstrip('/')}/")]
    return max(fitting, key=lambda one: len(one.prefix)).backend.name if fitting else ""


def installation(config: PlatformConfig, opa: Opa, intent: GatewayIntent) -> Json:
    """The document `data.installation` of the policies in policies/rego."""
    exact: dict[str, Json] = {}
    templates: dict[str, dict[str, list[Json]]] = {}
    for one in operations(config, intent):
        known = {"service": one.service, "scopes": one.scopes, **({"model": True} if one.names_model else {})}
        if VARIABLE in one.segments:
            length = str(len(one.segments))
            templates.setdefault(one.method, {}).setdefault(length, []).append({"path": list(one.segments), **known})
        else:
            exact.setdefault(one.method, {})[one.path] = known
    return {
        "exact": exact,
        "templates": templates,
        "prefixes": _prefixes(config, intent),
        "tenants": {name: _rules(rules) for name, rules in opa.tenants.items()},
        "regions": dict(opa.regions),
    }


def _prefixes(config: PlatformConfig, intent: GatewayIntent) -> list[Json]:
    """Prefixes of the user's own services, and of Keycloak and Grafana, where nobody has a key. Longer ones first."""
    found: list[Json] = [
        {"path": route.prefix.strip("/").split("/"), "service": route.backend.name, "scopes": None}
        for route in intent.routes
        if route.backend.name in (keycloak.PART, grafana.PART)
    ]
    found += [
        {
            "path": prefix.path.strip("/").split("/"),
            "service": name,
            "scopes": None if config.services.custom[name].keys is Keys.NONE else list(record.scopes),
        }
        for name, record in config.around.records.items()
        if record.custom
        for prefix in record.prefixes
    ]
    return sorted(found, key=lambda one: (-len(one["path"]), one["path"]))


def _rules(rules: TenantRules) -> Json:
    return {
        **({"models": sorted(rules.models)} if rules.models else {}),
        **({"regions": sorted(rules.regions)} if rules.regions else {}),
        **({"hours": [_span(one) for one in rules.hours], "time_zone": rules.time_zone} if rules.hours else {}),
    }


def _span(hours: Hours) -> Json:
    """Days by the names that Rego has for them, and minutes since midnight."""
    return {
        "days": [day.value.capitalize() for day in hours.days],
        "from": _minutes(hours.begin),
        "until": _minutes(hours.end),
    }


def _minutes(time: str) -> int:
    hour, minute = time.split(":")
    return 60 * int(hour) + int(minute)
