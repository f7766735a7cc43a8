"""Logins of the platform's parts. Each has one random secret, from which a password per system is derived."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random

from components.base import PlatformComponent, labels

LENGTH = 43
"""Number of characters (letters and digits). 43 of them have 256 bits of entropy."""


class LoginsArgs(TypedDict):
    """Inputs of a set of logins."""

    namespace: pulumi.Input[str]
    logins: Mapping[str, Sequence[str]]
    """Systems, such as "postgres" or "kafka", for which a login has a password, by login."""
    generation: int
    """Number to increase for new secrets of all logins."""


class LoginsResources(NamedTuple):
    """Resources of logins."""

    secrets: Mapping[str, k8s.core.v1.Secret]
    """By login."""


class Logins(PlatformComponent):
    """One Secret `login-<name>` per login, with one entry per system, which holds the password."""

    versions: dict[str, pulumi.Output[str]]
    """Values by login that change with its passwords and do not reveal them. Pods have it as an annotation, so that a
    rotation restarts them."""

    def __init__(self, name: str, args: LoginsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("security", name, {"logins": {k: list(v) for k, v in args["logins"].items()}}, opts)
        self._passwords: dict[tuple[str, str], pulumi.Output[str]] = {}
        self._secrets: dict[str, k8s.core.v1.Secret] = {}
        self.versions = {}
        for login, systems in args["logins"].items():
            root = random.RandomPassword(
                f"{name}-{login}",
                length=LENGTH,
                special=False,
                keepers={"generation": str(args["generation"])},
                opts=self.child(additional_secret_outputs=["result"]),
            )
            found = {system: _derived(root.result, system) for system in systems}
            self._passwords |= {(login, system): password for system, password in found.items()}
            self.versions[login] = pulumi.Output.unsecret(_derived(root.result, "version of the pods"))
            self._secrets[login] = k8s.core.v1.Secret(
                f"{name}-{login}",
                metadata={
                    "name": f"login-{login}",
                    "namespace": args["namespace"],
                    "labels": labels("logins", "security"),
                },
                string_data=dict(sorted(found.items())),
                opts=self.child(),
            )
        self.resources = LoginsResources(self._secrets)
        self.finish(
            {
                "kind": "Secret",
                "namespace": args["namespace"],
                "name": f"login-{next(iter(args['logins']))}",
                "probe": "the Secrets exist",
            }
        )

    def secret(self, login: str) -> pulumi.Output[str]:
        """Name of a login's Secret."""
        return self._secrets[login].metadata["name"]

    def password(self, login: str, system: str) -> pulumi.Output[str]:
        """A login's password for a system, a secret output."""
        return self._passwords[login, system]


def _derived(root: pulumi.Output[str], system: str) -> pulumi.Output[str]:
    """Derive a system's password. It does not reveal the passwords of other systems."""
    return pulumi.Output.secret(
        root.apply(lambda key: hmac.new(key.encode(), system.encode(), hashlib.sha256).hexdigest()[:40])
    )
