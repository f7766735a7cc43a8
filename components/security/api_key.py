"""An API key: random, stored as a secret in the Pulumi state and in Kubernetes. There is no default key."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random

from components.base import PlatformComponent, labels

PREFIX = "cf-"
LENGTH = 40
"""Number of characters (letters and digits). 40 of them have 238 bits of entropy."""


class ApiKeyArgs(TypedDict):
    """Inputs of an API key."""

    namespace: pulumi.Input[str]
    secret_name: str
    generation: NotRequired[str]
    """Any text. A change rotates the key."""


class ApiKeyResources(NamedTuple):
    """Resources of a key."""

    password: random.RandomPassword
    """What the key is made of."""
    secret: k8s.core.v1.Secret


class ApiKey(PlatformComponent):
    """API key of one client."""

    key: pulumi.Output[str]
    """The key, a secret output."""
    secret_name: pulumi.Output[str]
    version: pulumi.Output[str]
    """A value that changes with the key and does not reveal it."""

    def __init__(self, name: str, args: ApiKeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("security", name, args, opts)
        password = random.RandomPassword(
            name,
            length=LENGTH,
            special=False,
            keepers={"generation": args.get("generation", "1")},
            opts=self.child(additional_secret_outputs=["result"]),
        )
        self.key = pulumi.Output.secret(pulumi.Output.concat(PREFIX, password.result))
        self.version = pulumi.Output.unsecret(self.key).apply(lambda key: hashlib.sha256(key.encode()).hexdigest()[:16])
        secret = k8s.core.v1.Secret(
            name,
            metadata={
                "name": args["secret_name"],
                "namespace": args["namespace"],
                "labels": labels("api-key", "security"),
            },
            string_data={"key": self.key},
            opts=self.child(),
        )
        self.resources = ApiKeyResources(password, secret)
        self.secret_name = secret.metadata["name"]
        self.finish(
            {
                "kind": "Secret",
                "namespace": args["namespace"],
                "name": self.secret_name,
                "probe": "the Secret exists",
            }
        )
