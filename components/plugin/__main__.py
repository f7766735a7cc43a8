"""Pulumi plugin of the component library: components with plain inputs, for programs in any language."""

import sys
from collections.abc import Callable
from typing import ClassVar, ForwardRef, get_origin

import pulumi
from pulumi.provider.experimental import component_provider_host

from components.base import PART_OF, PlatformComponent
from components.catalogue import platform_version
from components.cluster.encryption_key import EncryptionKey
from components.cluster.namespace import PlatformNamespace
from components.security.api_key import ApiKey
from components.security.certificate import Certificate

COMPONENTS: list[type[pulumi.ComponentResource]] = [ApiKey, Certificate, EncryptionKey, PlatformNamespace]


def _resolve(owner: type | Callable[..., object]) -> None:
    """Replace annotations that are strings by their types, because the component host does not evaluate them."""
    scope = vars(sys.modules[owner.__module__])
    for name, value in list(owner.__annotations__.items()):
        text = value.__forward_arg__ if isinstance(value, ForwardRef) else value
        owner.__annotations__[name] = eval(text, scope) if isinstance(text, str) else text
        if get_origin(owner.__annotations__[name]) is ClassVar:
            del owner.__annotations__[name]


def serve() -> None:
    """Serve the Pulumi engine until it ends this process."""
    _resolve(PlatformComponent)
    for component in COMPONENTS:
        _resolve(component)
        _resolve(component.__init__)
        _resolve(component.__init__.__annotations__["args"])
    component_provider_host(COMPONENTS, PART_OF, version=platform_version())


if __name__ == "__main__":
    serve()
