"""How a service shows who it is, and how it knows who calls: tokens of service accounts in a volume of its pods.

A caller has a token for each service that it asks, of no use for any other. A callee knows whom it may let in and
where the cluster's public keys are; it asks the API server for them with a token of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pulumi

MOUNT = "/var/run/secrets/cogniforge"
VOLUME = "identity"
API_SERVER = "https://kubernetes.default.svc"
TOKEN_SECONDS = 3600
"""The kubelet renews a token when a fifth of this is left: for so long calls work while the API server is away."""


def environment(namespace: pulumi.Input[str], callers: Sequence[str]) -> dict[str, pulumi.Input[str]]:
    """What a service is told that lets only `callers` in."""
    known = pulumi.Output.from_input(namespace)
    return {
        "SERVICE_ISSUER": API_SERVER,
        "SERVICE_CALLERS": known.apply(lambda space: json.dumps([f"{space}/{caller}" for caller in callers])),
    }


def mount() -> dict[str, Any]:
    """For a container."""
    return {"name": VOLUME, "mount_path": MOUNT, "read_only": True}


def volume(asks: Sequence[str], *, answers: bool) -> dict[str, Any]:
    """`asks`: the services that the pod calls; `answers`: it is called itself."""
    sources = [token(f"tokens/{callee}", callee) for callee in asks]
    if answers:
        authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "issuer/ca.crt"}]}
        sources += [token("issuer/token"), {"config_map": authority}]
    return {"name": VOLUME, "projected": {"sources": sources}}


def token(path: str, audience: str = "") -> dict[str, Any]:
    """A source of a projected volume. Without an audience, it is for the API server."""
    wanted = {"audience": audience} if audience else {}
    return {"service_account_token": {"path": path, "expiration_seconds": TOKEN_SECONDS, **wanted}}
