"""Istio: which service account calls which port of which pods.

Semantics: Istio reference, AuthorizationPolicy and PeerAuthentication. A DENY rule wins. As soon as one ALLOW policy
selects a pod, a request needs an ALLOW rule; a policy without rules matches nothing. Callers without an identity pass
only where PeerAuthentication admits plaintext.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.base import SCRAPER
from components.config.mesh import MeshMode
from components.config.platform import PlatformConfig
from policies.access import network_intents, uses
from policies.access.model import Access, Layer
from policies.access.network import COLLECTOR, CONNECT, place, selected
from policies.access.objects import UNCAPTURED, Object, Rendered, Workload

CALL = "call"
PLAIN, FOREIGN = "clients outside the mesh", "service accounts of other namespaces"


@dataclass(frozen=True)
class Caller:
    """A caller as the mesh sees it; no account: it has no identity of the mesh."""

    namespace: str = ""
    account: str = ""

    @property
    def principal(self) -> str:
        """Identity in the trust domain; empty: none."""
        return f"cluster.local/ns/{self.namespace}/sa/{self.account}" if self.account else ""


def _one_of(patterns: list[str] | None, value: str, unless: list[str] | None = None) -> bool:
    """Whether a field matches. Patterns may begin or end with `*`; a missing list matches everything."""
    if unless and any(fnmatch.fnmatchcase(value, one) for one in unless):
        return False
    return patterns is None or (value != "" and any(fnmatch.fnmatchcase(value, one) for one in patterns))


def _source(source: Mapping[str, Any], caller: Caller) -> bool:
    return _one_of(source.get("principals"), caller.principal, source.get("notPrincipals")) and _one_of(
        source.get("namespaces"), caller.namespace, source.get("notNamespaces")
    )


def rule_matches(rule: Mapping[str, Any], caller: Caller, port: int) -> bool:
    """Whether a rule matches a connection. Fields of HTTP are treated as if they could match."""
    sources, operations = rule.get("from"), rule.get("to")
    came = not sources or any(_source(one["source"], caller) for one in sources)
    goes = not operations or any(
        _one_of(one["operation"].get("ports"), str(port), one["operation"].get("notPorts")) for one in operations
    )
    return came and goes


def members(rendered: Rendered) -> dict[str, Workload]:
    """Workloads whose pods the mesh protects: those with a sidecar, or all where Istio itself adds these."""
    found = rendered.workloads
    sidecars = {name: one for name, one in found.items() if uses.SIDECAR_LABEL in one.labels}
    return sidecars or found


class Mesh:
    """The policies of the mesh."""

    def __init__(self, rendered: Rendered) -> None:
        kinds = ("AuthorizationPolicy", "PeerAuthentication")
        self._policies = list(rendered.of_kind(*kinds))

    def _about(self, kind: str, workload: Workload) -> list[Object]:
        return [
            one
            for one in self._policies
            if one.kind == kind
            and one.namespace == workload.namespace
            and selected((one.inputs.get("spec") or {}).get("selector"), workload.labels)
        ]

    def plaintext(self, workload: Workload, port: int) -> bool:
        """Whether a port accepts connections without mutual TLS."""
        mode = "PERMISSIVE"  # Istio's default
        found = self._about("PeerAuthentication", workload)
        # The namespace's policy first, then the one with a selector, then its port.
        for one in sorted(found, key=lambda one: "selector" in one.inputs["spec"]):
            spec = one.inputs["spec"]
            mode = (spec.get("mtls") or {}).get("mode", mode)
            mode = ((spec.get("portLevelMtls") or {}).get(str(port)) or {}).get("mode", mode)
        return mode != "STRICT"

    def admits(self, caller: Caller, workload: Workload, port: int) -> str | None:
        """The object that admits a connection; None: it is refused."""
        if not caller.principal and not self.plaintext(workload, port):
            return None
        policies = self._about("AuthorizationPolicy", workload)
        for policy in policies:
            spec = policy.inputs.get("spec") or {}
            if spec.get("action") == "DENY" and any(rule_matches(r, caller, port) for r in spec.get("rules") or ()):
                return None
        allowing = [p for p in policies if (p.inputs.get("spec") or {}).get("action", "ALLOW") == "ALLOW"]
        if not allowing:
            return "no AuthorizationPolicy that selects the pods"
        for policy in allowing:
            for number, rule in enumerate((policy.inputs.get("spec") or {}).get("rules") or (), 1):
                if rule_matches(rule, caller, port):
                    return f"{policy.title}, rule {number}"
        return None


def granted(rendered: Rendered) -> dict[Access, str]:
    """All connections that the mesh admits; none of interest where there is no mesh."""
    if not any(rendered.of_kind("PeerAuthentication", "AuthorizationPolicy")):
        return {}
    mesh, found, space = Mesh(rendered), dict[Access, str](), rendered.namespace
    callers = {
        **{w.name: Caller(w.namespace, w.account) for w in rendered.workloads.values() if w.account != "default"},
        COLLECTOR: Caller(*SCRAPER),
        FOREIGN: Caller("elsewhere", "router"),
        PLAIN: Caller(),
    }
    for target in members(rendered).values():
        for port in target.ports if target.namespace == space else ():
            for who, caller in callers.items():
                by = f"annotation {UNCAPTURED}" if port in target.uncaptured else mesh.admits(caller, target, port)
                if who != target.name and by:
                    found[Access(who, CALL, place(target, port))] = by
    return found


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """Who may connect to one port of a part may call all its ports: NetworkPolicies tell the ports apart.

    Only the metrics collector is held to single ports.
    """
    if config.mesh.mode is MeshMode.OFF:
        return {}
    found, there = dict[Access, str](), members(rendered)
    for (who, action, target), reason in network_intents.intended(config, rendered).items():
        part = there.get(target.rpartition(":")[0])
        if action != CONNECT or part is None:
            continue
        source = rendered.workloads.get(who)
        if who == COLLECTOR or (source and (source.namespace, source.account) == SCRAPER):
            found[Access(who, CALL, target)] = reason
        elif source and source.account != "default" and part.name != "gateway":
            for port in part.ports:
                found[Access(who, CALL, place(part, port))] = reason
    if entrance := rendered.workloads.get("gateway"):
        for port, name in entrance.ports.items():
            known = [w.name for w in rendered.workloads.values() if w.account != "default" and w is not entrance]
            for who in (*known, COLLECTOR, FOREIGN, PLAIN) if name == "https" else ():
                found[Access(who, CALL, place(entrance, port))] = "the gateway is for everybody"
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    return f"AuthorizationPolicy {rendered.namespace}/allow-{access.target.rpartition(':')[0]}"


LAYER = Layer(
    "mesh",
    "Mesh",
    "Which service account calls which port of which pods, by AuthorizationPolicy and PeerAuthentication. Callers are "
    "distinguished by account, not by port. An account of another namespace and a client without mutual TLS stand for "
    "all others.",
    granted,
    intended,
    _holder,
)
