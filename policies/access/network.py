"""NetworkPolicies: which pods connect to which ports, and to which addresses outside.

Semantics: Kubernetes API reference, NetworkPolicy. A connection needs the egress of its source and the ingress of its
target. A pod that no policy selects for a direction is open in this direction.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.base import PART_OF, SCRAPER
from policies.access.model import Access
from policies.access.objects import NAME, Object, Rendered, Workload

CONNECT = "connect to"
COLLECTOR = "the metrics collector"
STRANGERS = "pods of other namespaces"
BARE = "pods without labels"
PART = "pods of other parts"
WORLD = "addresses outside the cluster"
_SPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it."""

    namespace: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Address:
    """An address outside the cluster's pods."""

    ip: str


End = Pod | Address
ADDRESSES = {
    "the internet": Address("198.51.100.7"),  # TEST-NET-2, RFC 5737
    "the instance metadata": Address("169.254.169.254"),
    "the pod identity agent": Address("169.254.170.23"),
}
"""Addresses that stand for a class each. The VPC is added where the environment has one."""


def selected(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches. An empty selector matches everything."""
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for one in (selector or {}).get("matchExpressions") or ():
        key, operator, values = one["key"], one["operator"], one.get("values") or ()
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[operator]
        if not holds:
            return False
    return True


def port_matches(ports: Iterable[Mapping[str, Any]] | None, number: int, name: str) -> bool:
    """Whether a rule's list of ports contains a TCP port. A missing or empty list contains all ports."""
    if not ports:
        return True
    for one in ports:
        if one.get("protocol", "TCP") != "TCP":
            continue
        port = one.get("port")
        if port is None or port == number or (isinstance(port, str) and port == (name or None)):
            return True
        if isinstance(port, int) and port <= number <= one.get("endPort", port):
            return True
    return False


def peer_matches(peers: Iterable[Mapping[str, Any]] | None, end: End, policy: Object, spaces: Spaces) -> bool:
    """Whether a rule's list of peers contains an end of a connection. A missing or empty list contains all."""
    if not peers:
        return True
    return any(_is_peer(peer, end, policy, spaces) for peer in peers)


Spaces = Mapping[str, Mapping[str, str]]
"""Labels of namespaces by name."""


def _is_peer(peer: Mapping[str, Any], end: End, policy: Object, spaces: Spaces) -> bool:
    if block := peer.get("ipBlock"):
        if isinstance(end, Pod):
            return False  # addresses of pods are not stable; a policy for pods uses selectors
        address = ipaddress.ip_address(end.ip)
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(one) for one in block.get("except") or ())
    if isinstance(end, Address):
        return False
    if (space := peer.get("namespaceSelector")) is None:
        if end.namespace != policy.namespace:
            return False
    elif not selected(space, spaces.get(end.namespace, {_SPACE: end.namespace})):
        return False
    return selected(peer.get("podSelector"), end.labels)


class Policies:
    """All NetworkPolicies of an environment."""

    def __init__(self, rendered: Rendered) -> None:
        self._policies = list(rendered.of_kind("NetworkPolicy"))
        self._spaces = {
            one.meta["name"]: {**(one.meta.get("labels") or {}), _SPACE: one.meta["name"]}
            for one in rendered.of_kind("Namespace")
        }

    def selecting(self, pod: Pod, direction: str) -> list[Object]:
        """Policies that select a pod for "Ingress" or "Egress"."""
        found = list[Object]()
        for policy in self._policies:
            spec = policy.inputs["spec"]
            types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
            if policy.namespace == pod.namespace and direction in types and selected(spec["podSelector"], pod.labels):
                found.append(policy)
        return found

    def enters(self, source: End, target: Pod, port: int, name: str) -> str | None:
        """The rule that admits a connection at its target; None: it is refused."""
        return self._admits("ingress", "from", target, source, port, name)

    def leaves(self, source: Pod, target: End, port: int, name: str) -> str | None:
        """The rule that lets a connection leave its source; None: it is refused."""
        return self._admits("egress", "to", source, target, port, name)

    def _admits(self, direction: str, side: str, pod: Pod, other: End, port: int, name: str) -> str | None:
        chosen = self.selecting(pod, direction.capitalize())
        if not chosen:
            return f"no NetworkPolicy that selects the pods for {direction}"
        for policy in chosen:
            for number, rule in enumerate(policy.inputs["spec"].get(direction) or (), 1):
                if port_matches(rule.get("ports"), port, name) and peer_matches(
                    rule.get(side), other, policy, self._spaces
                ):
                    return f"{policy.title}, {direction} rule {number}"
        return None


def pod(workload: Workload) -> Pod:
    """A pod of a workload."""
    return Pod(workload.namespace, workload.labels)


def place(workload: Workload, port: int) -> str:
    """A port in the words of an access."""
    return f"{workload.name}:{port}"


def outsiders(rendered: Rendered) -> dict[str, list[End]]:
    """Others than the environment's parts who might connect: for each, pods or addresses that stand for all."""
    space, names = rendered.namespace, sorted(rendered.workloads)
    labels = {"app.kubernetes.io/part-of": PART_OF}
    return {
        COLLECTOR: [Pod(SCRAPER[0], {NAME: SCRAPER[1]})],
        STRANGERS: [Pod("elsewhere", {}), *(Pod("elsewhere", {**labels, NAME: name}) for name in names)],
        BARE: [Pod(space, {})],
        PART: [Pod(space, {**labels, NAME: "another-part"})],
        WORLD: list(ADDRESSES.values()),
    }


def elsewhere(rendered: Rendered) -> dict[str, End]:
    """Ends of connections that stand for all outside the platform's namespace."""
    found: dict[str, End] = {**ADDRESSES, "other namespaces": Pod("elsewhere", {})}
    for policy in rendered.of_kind("NetworkPolicy"):
        for rule in policy.inputs["spec"].get("egress") or ():
            for peer in rule.get("to") or ():
                if name := ((peer.get("namespaceSelector") or {}).get("matchLabels") or {}).get(_SPACE):
                    found[space(name)] = Pod(name, {})
    for vpc in rendered.of_type("aws:ec2/vpc:Vpc"):
        network = ipaddress.ip_network(vpc.inputs["cidrBlock"])
        found["the VPC"] = Address(str(network.network_address + 10))
    return found


def space(name: str) -> str:
    """A namespace in the words of an access."""
    return f"the namespace {name}"


def mentioned(rendered: Rendered) -> list[int]:
    """TCP ports that egress rules mention, and one that stands for all others."""
    found = {1}
    for policy in rendered.of_kind("NetworkPolicy"):
        for rule in policy.inputs["spec"].get("egress") or ():
            found |= {one["port"] for one in rule.get("ports") or () if isinstance(one.get("port"), int)}
    return sorted(found)


def granted(rendered: Rendered) -> dict[Access, str]:
    """All connections that the policies allow."""
    policies, found = Policies(rendered), dict[Access, str]()
    others, outside, ports = outsiders(rendered), elsewhere(rendered), mentioned(rendered)
    for target in rendered.workloads.values():
        if target.namespace != rendered.namespace:
            continue
        for port, name in target.ports.items():
            for source in rendered.workloads.values():
                out = policies.leaves(pod(source), pod(target), port, name)
                into = policies.enters(pod(source), pod(target), port, name) if out else None
                if into and source.name != target.name:
                    found[Access(source.name, CONNECT, place(target, port))] = into
            for who, ends in others.items():
                for end in ends:
                    if into := policies.enters(end, pod(target), port, name):
                        found[Access(who, CONNECT, place(target, port))] = into
    for source in rendered.workloads.values():
        if source.namespace != rendered.namespace:
            continue
        for port in ports:
            for where, end in outside.items():
                if out := policies.leaves(pod(source), end, port, ""):
                    found[Access(source.name, CONNECT, f"{where}:{shown(port)}")] = out
    return found


def shown(port: int) -> str:
    """A port outside in the words of an access."""
    return "other ports" if port == 1 else str(port)
