"""Logins of the platform's own parts: one random secret each, from which a password for each system is derived."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random

from components.base import PlatformComponent, labels

LENGTH = 43
"""Letters and digits; 43 of them are 256 bits."""


class LoginsArgs(TypedDict):
    """Inputs of a set of logins."""

    namespace: pulumi.Input[str]
    logins: Mapping[str, Sequence[str]]
    """Systems (such as "postgres", "kafka") that each login has a password for."""
    generation: int
    """Raise it to give every login a new secret."""


class Logins(PlatformComponent):
    """A Secret `login-<name>` for each login, with one password a system as its keys."""

    versions: dict[str, pulumi.Output[str]]
    """Changes with a login's passwords, and tells nothing of them; pods that carry it are rolled by a rotation."""

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
        self.finish(
            {
                "kind": "Secret",
                "namespace": args["namespace"],
                "name": f"login-{next(iter(args['logins']))}",
                "probe": "the Secrets exist",
            }
        )

    def secret(self, login: str) -> pulumi.Output[str]:
        """Name of the Secret of a login."""
        return self._secrets[login].metadata["name"]

    def password(self, login: str, system: str) -> pulumi.Output[str]:
        """A password; a secret output."""
        return self._passwords[login, system]


def _derived(root: pulumi.Output[str], system: str) -> pulumi.Output[str]:
    """Whoever learns the password of one system learns nothing of another's."""
    return pulumi.Output.secret(
        root.apply(lambda key: hmac.new(key.encode(), system.encode(), hashlib.sha256).hexdigest()[:40])
    )
