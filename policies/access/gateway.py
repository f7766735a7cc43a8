"""The gateway's routes, as Envoy or Kong would choose them: which paths reach which service, and from where.

Semantics: Envoy reference, RouteMatch (the first route that matches decides) and RBAC filter; Gateway API reference,
HTTPRouteMatch, with Kong's order (regular expressions by priority before prefixes by length).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.config import grafana
from components.config.cluster import ClusterKind
from components.config.platform import PlatformConfig
from components.services.record import Prefix
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Rendered

CLIENTS, OPERATORS, FORWARDED = "clients", "clients in the operators' networks", "whoever forwards the operators' port"
REACH = "reach"
ADMIN, DOCUMENTS = "/v1/admin", ("/openapi.json", "/docs")
LOGINS = ("/realms/cogniforge/", "/resources/")
"""Paths of Keycloak: one realm for people, and files of its pages."""
DASHBOARDS = "/grafana/"
_NOT_SERVICES = {uses.KEYCLOAK: "logins of people", grafana.PART: "observability.grafana: people look at dashboards"}
_ANYWHERE = "198.51.100.7"
_HIDDEN = (
    "/metrics",
    "/healthz",
    "/readyz",
    "/server_info",
    "/quitquitquit",
    "/unknown",
    "/admin/realms",
    "/realms/master/x",
)
"""Paths of services and proxies that no client may reach, and one that nobody has."""


@dataclass(frozen=True)
class Door:
    """One listener with its routes: from a request to the cluster that receives it."""

    who: str
    address: str
    title: str
    routes: tuple[Mapping[str, Any], ...] = ()
    denied: tuple[Mapping[str, Any], ...] = ()
    """Policies of a denying RBAC filter."""

    def target(self, path: str) -> str | None:
        """The cluster for GET `path`; None: the gateway answers by itself."""
        if any(_rbac(one, path, self.address) for one in self.denied):
            return None
        for route in self.routes:
            if envoy_matches(route["match"], path):
                return (route.get("route") or {}).get("cluster")
        return None


def envoy_matches(match: Mapping[str, Any], path: str, method: str = "GET") -> bool:
    """Whether an Envoy route matches a request without a body."""
    for header in match.get("headers") or ():
        if header["name"] != ":method":
            return False  # headers that the request does not have, such as content-length
        if not re.fullmatch(header["string_match"]["safe_regex"]["regex"], method):
            return False
    return _path(match, path)


def _path(match: Mapping[str, Any], path: str) -> bool:
    if (prefix := match.get("path_separated_prefix")) is not None:
        return path == prefix or path.startswith(f"{prefix}/")
    if "prefix" in match:
        return path.startswith(match["prefix"])
    if (exact := match.get("path", match.get("exact"))) is not None:
        return path == exact
    return re.fullmatch(match["safe_regex"]["regex"], path) is not None


def _rbac(policy: Mapping[str, Any], path: str, address: str) -> bool:
    """Whether a policy of an RBAC filter matches."""
    about = any("any" in one or _path(one["url_path"]["path"], path) for one in policy["permissions"])
    return about and any(_principal(one, address) for one in policy["principals"])


def _principal(principal: Mapping[str, Any], address: str) -> bool:
    if "not_id" in principal:
        return not _principal(principal["not_id"], address)
    if "or_ids" in principal:
        return any(_principal(one, address) for one in principal["or_ids"]["ids"])
    if network := principal.get("remote_ip"):
        block = f"{network['address_prefix']}/{network['prefix_len']}"
        return ipaddress.ip_address(address) in ipaddress.ip_network(block)
    return "any" in principal


def _envoy(rendered: Rendered, inside: str) -> Iterator[Door]:
    """Doors of Envoy. `inside`: an address of the operators' networks; empty: there are none."""
    for secret in rendered.of_kind("Secret"):
        for text in secret.texts.values():
            if '"static_resources"' not in text:
                continue
            for listener in json.loads(text)["static_resources"]["listeners"]:
                if listener["name"] not in ("https", "operators"):
                    continue
                manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
                routes = tuple(manager["route_config"]["virtual_hosts"][0]["routes"])
                rules = [one["typed_config"].get("rules") or {} for one in manager["http_filters"]]
                denied = tuple(p for r in rules if r.get("action") == "DENY" for p in r["policies"].values())
                title = f"{secret.title}, listener {listener['name']}"
                if listener["name"] == "operators":
                    yield Door(FORWARDED, _ANYWHERE, title, routes, denied)
                    continue
                yield Door(CLIENTS, _ANYWHERE, title, routes, denied)
                if inside:
                    yield Door(OPERATORS, inside, title, routes, denied)


@dataclass(frozen=True)
class _Kong:
    """Kong's routes as HTTPRoutes with plugins."""

    who: str
    address: str
    title: str
    rendered: Rendered

    def target(self, path: str) -> str | None:
        """The service for GET `path`; None: Kong answers by itself."""
        ranked = sorted(self._matching(path), key=lambda one: one[0], reverse=True)
        if not ranked:
            return None
        route = ranked[0][1]
        for name in route.meta["annotations"]["konghq.com/plugins"].split(","):
            plugin = self.rendered.named("KongPlugin", name)
            if plugin is None or plugin.inputs["plugin"] == "request-termination":
                return None
            if plugin.inputs["plugin"] == "ip-restriction":
                allowed = plugin.inputs["config"].get("allow") or ()
                if not any(ipaddress.ip_address(self.address) in ipaddress.ip_network(one) for one in allowed):
                    return None
        return route.inputs["spec"]["rules"][0]["backendRefs"][0]["name"]

    def _matching(self, path: str) -> Iterator[tuple[tuple[int, int, int], Any]]:
        """(rank, route) of all routes that match."""
        for route in self.rendered.of_kind("HTTPRoute"):
            priority = int(route.meta["annotations"].get("konghq.com/regex-priority", 0))
            for rule in route.inputs["spec"]["rules"]:
                for match in rule["matches"]:
                    if match.get("method", "GET") != "GET":
                        continue
                    kind, value = match["path"]["type"], match["path"]["value"]
                    if (kind == "RegularExpression" and re.match(value, path)) or (kind == "Exact" and path == value):
                        yield (1, priority, len(value)), route
                    elif kind == "PathPrefix":
                        prefix = value.rstrip("/")
                        if path == prefix or path.startswith(f"{prefix}/"):
                            yield (0, 0, len(prefix)), route


def _doors(rendered: Rendered) -> list[Door | _Kong]:
    inside = _inside(rendered)
    found: list[Door | _Kong] = list(_envoy(rendered, inside))
    if any(rendered.of_kind("HTTPRoute")):
        found.append(_Kong(CLIENTS, _ANYWHERE, "the HTTPRoutes of Kong", rendered))
        if inside:
            found.append(_Kong(OPERATORS, inside, "the HTTPRoutes of Kong", rendered))
    return found


def _inside(rendered: Rendered) -> str:
    """An address that a rule for operators' networks admits; empty: there is none."""
    for plugin in rendered.of_kind("KongPlugin"):
        if plugin.inputs["plugin"] == "ip-restriction":
            return str(ipaddress.ip_network(plugin.inputs["config"]["allow"][0])[0])
    for secret in rendered.of_kind("Secret"):
        for text in secret.texts.values():
            if match := re.search(r'"address_prefix": "([^"]+)"', text):
                return match[1]
    return ""


def _samples(prefixes: Iterable[str], exact: Iterable[str]) -> list[str]:
    """Paths that stand for all: below each prefix, with and without an encoded slash, and what nobody may reach."""
    below = [path for prefix in prefixes for path in (f"{prefix.rstrip('/')}/x", f"{prefix.rstrip('/')}/a%2Fb")]
    return sorted({*below, *exact, *_HIDDEN, *DOCUMENTS, f"{ADMIN}/x", "/v1/unknown"})


def _named(doors: Iterable[Door | _Kong], rendered: Rendered) -> tuple[set[str], set[str]]:
    """Prefixes, and single paths, that routes name."""
    prefixes, exact = set[str](), set[str]()
    for door in doors:
        for route in door.routes if isinstance(door, Door) else ():
            match = route["match"]
            prefixes |= {match[key] for key in ("prefix", "path_separated_prefix") if key in match}
            exact |= {match["path"]} if "path" in match else set()
    for route in rendered.of_kind("HTTPRoute"):
        for match in (m["path"] for rule in route.inputs["spec"]["rules"] for m in rule["matches"]):
            if match["type"] == "PathPrefix":
                prefixes.add(match["value"])
            elif match["type"] == "Exact":
                exact.add(match["value"])
    return prefixes - {"/"}, exact


def granted(rendered: Rendered) -> dict[Access, str]:
    """Which service receives which sample path."""
    found, doors = dict[Access, str](), _doors(rendered)
    paths = _samples(*_named(doors, rendered))
    for door in doors:
        for path in paths:
            if target := door.target(path):
                found[Access(door.who, REACH, f"{target} at {path}")] = door.title
    return found


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """The longest prefix of all records decides. Operators' paths are closed, unless the configuration opens them."""
    prefixes = {p.path: (name, p) for name, one in uses.records(config).items() for p in one.prefixes}
    if config.security.keycloak:
        prefixes |= {path: (uses.KEYCLOAK, Prefix(path)) for path in LOGINS}
    if config.observability.grafana:
        prefixes[DASHBOARDS] = grafana.PART, Prefix(DASHBOARDS)
    access, found = config.gateway.operators, dict[Access, str]()
    public = config.cluster.kind is ClusterKind.LOCAL if access.public is None else access.public
    everybody = [CLIENTS, *([OPERATORS] if access.addresses else [])]
    described = [name for name, one in uses.records(config).items() if one.prefixes and one.document]
    documents = {f"/openapi/{name}.json": name for name in described}
    for path in _samples(prefixes, documents):
        operators = path == ADMIN or path.startswith(f"{ADMIN}/") or path in DOCUMENTS
        owner = max((p for p in prefixes if _below(p, path)), key=len, default="")
        name = prefixes[owner][0] if owner else uses.FRONT.name
        name = documents.get(path, name)
        if not owner and path not in (*DOCUMENTS, *documents):
            continue
        if "%2F" in path:
            encoded = [p for p in prefixes if prefixes[p][1].encoded_names and path.startswith(f"{p.rstrip('/')}/")]
            if not encoded:
                continue
            name = prefixes[max(encoded, key=len)][0]
        who = everybody if not operators or public else [OPERATORS] if access.addresses else []
        if not public and config.gateway.engine.value == "envoy":
            who = [*who, FORWARDED]
        for one in who:
            found[Access(one, REACH, f"{name} at {path}")] = _NOT_SERVICES.get(name) or f"record of {name}: prefixes"
    return found


def _below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def _holder(access: Access, rendered: Rendered) -> str:
    return next((door.title for door in _doors(rendered) if door.who == access.who), "the routes of the gateway")


LAYER = Layer(
    "gateway",
    "Gateway",
    "Which service receives which path from whom. One path below each prefix, one with an encoded slash, the "
    "operators' paths, and paths that nobody may reach stand for all others.",
    granted,
    intended,
    _holder,
)
