"""What all areas of a platform share while it is made: configuration, images, the cluster, what comes first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent
from components.config.platform import PlatformConfig
from components.delivery.images import ImageResolver


class Stage:
    """One environment while it is made."""

    def __init__(self, parent: pulumi.Resource, env: str, config: PlatformConfig, images: Iterable[str]) -> None:
        """`env`: the environment's name, with which names of resources begin. `images`: names of all that may run.

        Raises ImageError for an image that cannot be deployed.
        """
        self.config, self.env = config, env
        self.resolver = ImageResolver(config.images)
        # Every image is verified before the first resource is registered: a bad one changes nothing.
        self.images = {name: self.resolver.reference(name) for name in sorted(set(images))}
        self.parts: dict[str, PlatformComponent] = {}
        """All parts by name."""
        self.reused: frozenset[str] = frozenset()
        """Charts whose parts the cluster has already."""
        self.first: list[pulumi.Resource] = []
        """What comes before everything that runs pods."""
        self.namespace: pulumi.Output[str] = pulumi.Output.from_input(config.cluster.namespace)
        self._parent, self._cluster = parent, None

    def connect(self, cluster: k8s.Provider) -> None:
        """All that is made from now on is made in this cluster."""
        self._cluster = cluster

    def options(self, depends_on: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        """Options of a part that comes after others."""
        providers = {"kubernetes": self._cluster} if self._cluster else None
        return pulumi.ResourceOptions(parent=self._parent, providers=providers, depends_on=[*self.first, *depends_on])
