"""The typed configuration of an environment: one file, all mistakes reported at once."""

from __future__ import annotations

from enum import StrEnum

from components.config.base import Change, Section, setting
from components.config.cluster import Cluster
from components.config.data import Data
from components.config.gateway import Gateway
from components.config.images import Images
from components.config.mesh import Mesh
from components.config.models import Model
from components.config.observability import Observability
from components.config.routes import Route
from components.config.services import Services
from components.services.record import Surroundings
from components.services.registry import SERVICES


class Environment(StrEnum):
    """The four environments."""

    LOCAL = "local"
    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class PlatformConfig(Section):
    """The whole configuration of an environment."""

    environment: Environment = setting(Change.IMMUTABLE, "local, dev, staging or prod", strict=False)
    owner: str = setting(Change.SAFE, "Who answers for this environment", min_length=1, max_length=63)
    cluster: Cluster = setting(Change.IMMUTABLE, "Where the platform runs")
    images: Images = setting(Change.DISRUPTIVE, "Where the platform's own images come from")
    gateway: Gateway = setting(Change.DISRUPTIVE, "The entrance")
    mesh: Mesh = setting(Change.DISRUPTIVE, "Mutual TLS between services", default=Mesh())
    models: tuple[Model, ...] = setting(
        Change.SAFE, "Models that clients can ask", min_length=1, max_length=100, strict=False
    )
    routes: tuple[Route, ...] = setting(
        Change.SAFE, "Names under which several models answer", default=(), max_length=100, strict=False
    )
    services: Services = setting(Change.SAFE, "The bundled AI services", default=Services())
    data: Data = setting(Change.SAFE, "Databases, messaging, cache, objects", default=Data())
    observability: Observability = setting(Change.SAFE, "Logs and traces", default=Observability())

    @property
    def around(self) -> Surroundings:
        """What the hooks of services' records may look at."""
        return Surroundings(self.data, self.gateway, {name: SERVICES[name] for name in self.services.there})
