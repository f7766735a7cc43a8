"""Authentication between services with service account tokens, which a projected volume puts into the pods.

A caller has one token per service that it calls; the token's audience is that service, and others refuse it. A callee
has the list of accepted callers. It fetches the cluster's public keys from the API server, with its own token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

MOUNT = "/var/run/secrets/cogniforge"
VOLUME = "identity"
API_SERVER = "https://kubernetes.default.svc"
TOKEN_SECONDS = 3600
"""Lifetime in seconds. The kubelet renews a token when a fifth is left, so calls survive an API server outage of
that length."""


def environment(namespace: pulumi.Input[str], callers: Sequence[str]) -> dict[str, pulumi.Input[str]]:
    """Environment variables of a service that accepts only `callers`."""
    known = pulumi.Output.from_input(namespace)
    return {
        "SERVICE_ISSUER": API_SERVER,
        "SERVICE_CALLERS": known.apply(lambda space: json.dumps([f"{space}/{caller}" for caller in callers])),
    }


def mount() -> dict[str, Any]:
    """Volume mount of a container."""
    return {"name": VOLUME, "mount_path": MOUNT, "read_only": True}


def volume(asks: Sequence[str], *, answers: bool) -> dict[str, Any]:
    """Volume with the tokens. `asks`: services that the pod calls; `answers`: whether the pod is called, too."""
    sources = [token(f"tokens/{callee}", callee) for callee in asks]
    if answers:
        authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "issuer/ca.crt"}]}
        sources += [token("issuer/token"), {"config_map": authority}]
    return {"name": VOLUME, "projected": {"sources": sources}}


def sources(credentials: Mapping[str, tuple[str, str]], shown: Mapping[str, str]) -> list[dict[str, Any]]:
    """Sources of a projected volume: (Secret, entry) by path, and a token by path for each audience in `shown`.

    The operator makes the Secrets, so pods start without them.
    """
    held = [
        {"secret": {"name": secret, "items": [{"key": key, "path": path}], "optional": True}}
        for path, (secret, key) in sorted(credentials.items())
    ]
    return [*held, *(token(path, audience) for path, audience in sorted(shown.items()))]


def token(path: str, audience: str = "") -> dict[str, Any]:
    """A token as a source of a projected volume. Without an audience, the token is for the API server."""
    wanted = {"audience": audience} if audience else {}
    return {"service_account_token": {"path": path, "expiration_seconds": TOKEN_SECONDS, **wanted}}
