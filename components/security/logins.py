"""Logins of the platform's parts. Each has one random secret, from which a password per system is derived."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random
from pydantic import Field

from components.base import PlatformComponent, labels
from components.config.base import DnsLabel
from components.inputs import Inputs, LoginArgs, Text, checked

LENGTH = 43
"""Number of characters (letters and digits). 43 of them have 256 bits of entropy."""


class LoginsArgs(TypedDict):
    """Inputs of a set of logins."""

    namespace: pulumi.Input[str]
    """Namespace of the Secrets."""
    logins: Mapping[str, Sequence[str]]
    """Systems, such as "postgres" or "kafka", for which a login has a password, by login."""
    generation: NotRequired[int]
    """Number to increase for new secrets of all logins. Default 1."""
    prefix: NotRequired[str]
    """The names of the Secrets begin with this. Default "login"."""


class LoginsInputs(Inputs):
    """What `LoginsArgs` may hold."""

    namespace: Text = Field(description="Namespace of the Secrets")
    logins: dict[DnsLabel, list[str]] = Field(
        min_length=1, description='Systems (such as "postgres", "kafka") that each login has a password for'
    )
    generation: int = Field(default=1, ge=1, le=1_000_000, description="Raise it to give every login a new secret")
    prefix: DnsLabel = Field(default="login", description="The names of the Secrets begin with this")


class LoginsResources(NamedTuple):
    """Resources of logins."""

    secrets: Mapping[str, k8s.core.v1.Secret]
    """By login."""


class Logins(PlatformComponent):
    """One Secret `<prefix>-<login>` per login, with one entry per system, which holds the password."""

    credentials: dict[str, LoginArgs]
    """Each login with the name of its Secret and its passwords, for components that take logins."""
    versions: dict[str, pulumi.Output[str]]
    """Values by login that change with its passwords and do not reveal them. Pods have it as an annotation, so that a
    rotation restarts them."""

    def __init__(self, name: str, args: LoginsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(LoginsInputs, self, name, args)
        super().__init__("security", name, {"logins": inputs.logins}, opts)
        self._passwords: dict[tuple[str, str], pulumi.Output[str]] = {}
        self._secrets: dict[str, k8s.core.v1.Secret] = {}
        self.versions, self.credentials = {}, {}
        for login, systems in inputs.logins.items():
            root = random.RandomPassword(
                f"{name}-{login}",
                length=LENGTH,
                special=False,
                keepers={"generation": str(inputs.generation)},
                opts=self.child(additional_secret_outputs=["result"]),
            )
            found = {system: _derived(root.result, system) for system in systems}
            self._passwords |= {(login, system): password for system, password in found.items()}
            self.versions[login] = pulumi.Output.unsecret(_derived(root.result, "version of the pods"))
            self._secrets[login] = k8s.core.v1.Secret(
                f"{name}-{login}",
                metadata={
                    "name": f"{inputs.prefix}-{login}",
                    "namespace": inputs.namespace,
                    "labels": labels("logins", "security"),
                },
                string_data=dict(sorted(found.items())),
                opts=self.child(),
            )
            self.credentials[login] = {
                "secret_name": self.secret(login),
                "passwords": found,
                "version": self.versions[login],
            }
        self.resources = LoginsResources(self._secrets)
        self.finish(
            {
                "kind": "Secret",
                "namespace": inputs.namespace,
                "name": f"{inputs.prefix}-{next(iter(inputs.logins))}",
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
