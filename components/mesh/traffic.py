"""How sidecars call each service: mutual TLS, limits of connections, circuit breaking, retries, and who may leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent, labels, selector
from components.mesh.sidecar import TRUST_DOMAIN

NETWORKING = "networking.istio.io/v1"
CONNECT_SECONDS = 2
IDLE_SECONDS = 30
"""Seconds after which a sidecar closes an idle connection. Services keep theirs open for longer, so that no request
meets a connection that its service is closing."""
CONNECTIONS = 1024
"""Most connections, and most requests that wait or run, from one sidecar to one service."""
FAILURES = 5
"""Failed requests in a row (502, 503, 504, or no connection) after which a pod is left out."""
RETRY_PERCENT = 20
"""Most retries of a sidecar, in percent of its running requests to a service."""


class TrafficArgs(TypedDict):
    """Inputs of the traffic rules."""

    namespace: str
    """Namespace in the mesh."""
    hosts: Sequence[str]
    """Names of the Services whose pods have sidecars."""
    timeouts: Mapping[str, int]
    """Longest duration of a request in seconds, by the name of a Service with HTTP."""
    leaving: Sequence[str]
    """Parts that connect to addresses outside the mesh. For the others, sidecars refuse such connections."""


class TrafficResources(NamedTuple):
    """Resources of the traffic rules."""

    rules: tuple[k8s.apiextensions.CustomResource, ...]
    """DestinationRules, VirtualServices and Sidecars."""


class Traffic(PlatformComponent):
    """DestinationRules, VirtualServices and Sidecars of a namespace."""

    def __init__(self, name: str, args: TrafficArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mesh", name, {}, opts)
        made = [
            k8s.apiextensions.CustomResource(
                f"{name}-{kind.lower()}-{called}",
                api_version=NETWORKING,
                kind=kind,
                metadata={"name": called, "namespace": args["namespace"], "labels": labels("mesh-traffic", "mesh")},
                spec=spec,
                opts=self.child(),
            )
            for kind, called, spec in _rules(args)
        ]
        self.resources = TrafficResources(tuple(made))
        probe = "sidecars call services with mutual TLS, and refuse to connect elsewhere"
        self.finish({"kind": "", "namespace": args["namespace"], "name": name, "probe": probe})


def _rules(args: TrafficArgs) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(kind, name, spec) of all rules."""
    for host in args["hosts"]:
        yield "DestinationRule", host, destination(_full(host, args["namespace"]))
    for host, seconds in args["timeouts"].items():
        yield "VirtualService", host, limited(_full(host, args["namespace"]), seconds)
    for part in args["leaving"]:
        chosen = {"workloadSelector": {"labels": selector(part)}, "egress": [{"hosts": ["./*"]}]}
        yield "Sidecar", part, {**chosen, "outboundTrafficPolicy": {"mode": "ALLOW_ANY"}}


def _full(host: str, namespace: str) -> str:
    return f"{host}.{namespace}.svc.{TRUST_DOMAIN}"


def destination(host: str) -> dict[str, Any]:
    """Spec of a DestinationRule: mutual TLS, limits, circuit breaker, retry budget."""
    return {
        "host": host,
        "trafficPolicy": {
            "tls": {"mode": "ISTIO_MUTUAL"},
            "connectionPool": {
                "tcp": {"maxConnections": CONNECTIONS, "connectTimeout": f"{CONNECT_SECONDS}s"},
                "http": {
                    "http1MaxPendingRequests": CONNECTIONS,
                    "http2MaxRequests": CONNECTIONS,
                    "idleTimeout": f"{IDLE_SECONDS}s",
                },
            },
            "outlierDetection": {
                "consecutive5xxErrors": 0,
                "consecutiveGatewayErrors": FAILURES,
                "interval": "5s",
                "baseEjectionTime": "10s",
                # The last half is never left out, so one replica stays in use.
                "maxEjectionPercent": 50,
            },
            "retryBudget": {"percent": RETRY_PERCENT, "minRetryConcurrency": 3},
        },
    }


def limited(host: str, seconds: int) -> dict[str, Any]:
    """Spec of a VirtualService: the longest duration of a request. The mesh's retry policy holds."""
    route = {"destination": {"host": host}}
    return {"hosts": [host], "http": [{"route": [route], "timeout": f"{seconds}s"}]}
