"""An API key: random, stored as a secret in the Pulumi state and in Kubernetes. There is no default key."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random
from pydantic import Field

from components.base import PlatformComponent, labels
from components.config.base import ObjectName
from components.inputs import Inputs, Text, checked

PREFIX = "cf-"
LENGTH = 40
"""Number of characters (letters and digits). 40 of them have 238 bits of entropy."""


class ApiKeyArgs(TypedDict):
    """Inputs of an API key."""

    namespace: pulumi.Input[str]
    """Namespace of the Secret."""
    secret_name: str
    """Name of the Secret; its entry "key" holds the key."""
    generation: NotRequired[str]
    """Any text. A change rotates the key."""


class ApiKeyInputs(Inputs):
    """What `ApiKeyArgs` may hold."""

    namespace: Text = Field(description="Namespace of the Secret")
    secret_name: ObjectName = Field(description="Name of the Secret")
    generation: str = Field(default="1", max_length=200, description="Any text. A change rotates the key")


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
    """Name of the Secret, known once it exists."""
    version: pulumi.Output[str]
    """A value that changes with the key and does not reveal it."""

    def __init__(self, name: str, args: ApiKeyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(ApiKeyInputs, self, name, args)
        super().__init__("security", name, args, opts)
        password = random.RandomPassword(
            name,
            length=LENGTH,
            special=False,
            keepers={"generation": inputs.generation},
            opts=self.child(additional_secret_outputs=["result"]),
        )
        self.key = pulumi.Output.secret(pulumi.Output.concat(PREFIX, password.result))
        self.version = pulumi.Output.unsecret(self.key).apply(lambda key: hashlib.sha256(key.encode()).hexdigest()[:16])
        secret = k8s.core.v1.Secret(
            name,
            metadata={
                "name": inputs.secret_name,
                "namespace": inputs.namespace,
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
                "namespace": inputs.namespace,
                "name": self.secret_name,
                "probe": "the Secret exists",
            }
        )
