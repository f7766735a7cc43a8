"""The whole platform: its areas, and what each area takes from the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pulumi

from components import catalogue
from components.ai.models import SIMULATOR, ModelsArea
from components.base import PlatformComponent
from components.cluster.area import ClusterArea
from components.config.grafana import PART as GRAFANA
from components.config.platform import PlatformConfig
from components.data import area as data_area
from components.data import layer
from components.data.layer import DataLayer
from components.mesh.area import EntranceArea
from components.observability.area import ObservabilityArea, isolation_images
from components.security.area import SecurityArea
from components.services.area import ServicesArea
from components.stage import Stage


class PlatformResources(NamedTuple):
    """Resources of an environment."""

    parts: Mapping[str, PlatformComponent]
    """By name."""
    data: DataLayer


class Platform(PlatformComponent):
    """One environment of the platform, built from its configuration."""

    def __init__(
        self, config: PlatformConfig, opts: pulumi.ResourceOptions | None = None, *, name: str | None = None
    ) -> None:
        """`name`: name of the environment, the prefix of resource names. The default is its stage."""
        env = name or config.environment.value
        super().__init__("platform", f"{env}-platform", {"version": catalogue.platform_version()}, opts)
        stage = Stage(self, env, config, _images(config))
        cluster = ClusterArea(stage)
        security = SecurityArea(stage, cluster)
        self.data = data_area.make(stage, cluster, security)
        security.after_data(stage, self.data)
        models = ModelsArea(stage)
        services = ServicesArea(stage, security, self.data, models)
        entrance = EntranceArea(stage, security, self.data)
        ObservabilityArea(stage, security, self.data, models, services, entrance)
        self.key, self.certificate, self.gateway = security.key, security.certificate, entrance.gateway
        self.parts = {part: made.health for part, made in stage.parts.items()}
        self.resources = PlatformResources(stage.parts, self.data)
        self.url = entrance.url
        self.finish(
            {
                "kind": "Job",
                "namespace": stage.namespace,
                "name": "end-to-end",
                "probe": "all parts are healthy",
            },
            url=self.url,
        )


def _images(config: PlatformConfig) -> Iterator[str]:
    """Names of the images that the environment runs, except those of models on GPUs."""
    yield from ("gateway", SIMULATOR, *layer.images(config.data), *isolation_images(config))
    yield from (record.image for record in config.around.records.values())
    yield from config.asked_images
    yield from (GRAFANA,) if config.observability.grafana else ()
