"""State that all areas share while the platform is built: configuration, images, cluster, prerequisites."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pulumi
import pulumi_kubernetes as k8s

from components import catalogue
from components.base import PlatformComponent
from components.config.grafana import PART as GRAFANA
from components.config.platform import PlatformConfig
from components.delivery.images import ImageResolver


class Stage:
    """One environment while its resources are being declared."""

    def __init__(self, parent: pulumi.Resource, env: str, config: PlatformConfig, images: Iterable[str]) -> None:
        """`env`: name of the environment, the prefix of resource names. `images`: names of all images that may run.

        Raises ImageError if an image cannot be deployed.
        """
        self.config, self.env = config, env
        own = {record.image: record.reference for record in config.around.records.values() if record.custom}
        if grafana := config.observability.grafana:
            own[GRAFANA] = grafana.image or catalogue.upstream(GRAFANA).reference
        self.resolver = ImageResolver(config.images, own)
        # All images are verified before the first resource is registered, so an invalid image changes nothing.
        self.images = {name: self.resolver.reference(name) for name in sorted(set(images))}
        self.parts: dict[str, PlatformComponent] = {}
        """Components of all parts by name."""
        self.reused: frozenset[str] = frozenset()
        """Charts that are installed in the cluster already."""
        self.first: list[pulumi.Resource] = []
        """Resources that must exist before any pod runs."""
        self.namespace: pulumi.Output[str] = pulumi.Output.from_input(config.cluster.namespace)
        self.transformations: list[pulumi.ResourceTransformation] = []
        """Changes of all resources that are made from now on, such as sidecars in pods."""
        self._parent, self._cluster = parent, None

    def connect(self, cluster: k8s.Provider) -> None:
        """Create all further resources in this cluster."""
        self._cluster = cluster

    def options(self, depends_on: Sequence[pulumi.Resource] = ()) -> pulumi.ResourceOptions:
        """Resource options that order a part after the given resources."""
        providers = {"kubernetes": self._cluster} if self._cluster else None
        return pulumi.ResourceOptions(
            parent=self._parent,
            providers=providers,
            depends_on=[*self.first, *depends_on],
            transformations=[*self.transformations],
        )
