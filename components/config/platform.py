"""The typed configuration of an environment: all sections of a stack file."""

from __future__ import annotations

from enum import StrEnum

from components.config.base import Change, Section, setting, several
from components.config.cluster import Cluster
from components.config.data import Data
from components.config.gateway import Gateway, GatewayEngine
from components.config.images import Images
from components.config.mesh import Mesh, MeshMode
from components.config.models import Model
from components.config.observability import Observability
from components.config.profile import Profile
from components.config.profiles import left_out
from components.config.routes import Route
from components.config.security import Security
from components.config.services import Services
from components.services.record import Surroundings


class Environment(StrEnum):
    """Stage of an environment. It decides which rules hold, such as those of production."""

    LOCAL = "local"
    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class PlatformConfig(Section):
    """The whole configuration of an environment."""

    environment: Environment = setting(
        Change.IMMUTABLE, "Stage of the environment: local, dev, staging or prod", strict=False
    )
    profile: Profile | None = setting(
        Change.SAFE,
        "Which optional parts run: core, standard or full. Without it, those that have a section",
        default=None,
        strict=False,
    )
    owner: str = setting(Change.SAFE, "Person or group responsible for the environment", min_length=1, max_length=63)
    cluster: Cluster = setting(Change.IMMUTABLE, "Kubernetes cluster that the platform runs on")
    images: Images = setting(Change.DISRUPTIVE, "Source of the platform's own container images")
    gateway: Gateway = setting(Change.DISRUPTIVE, "Entrance for all requests from outside")
    mesh: Mesh = setting(Change.DISRUPTIVE, "Mutual TLS and authorization between services", default=Mesh())
    models: tuple[Model, ...] = setting(
        Change.SAFE, "Models that clients can use", min_length=1, max_length=100, strict=False
    )
    routes: tuple[Route, ...] = several(Change.SAFE, "Names for clients that stand for several models", 100)
    services: Services = setting(Change.SAFE, "AI services", default=Services())
    data: Data = setting(Change.SAFE, "Databases, messaging, cache, object store", default=Data())
    security: Security = setting(Change.SAFE, "Secret store, logins, decisions at the gateway", default=Security())
    observability: Observability = setting(Change.SAFE, "Logs, traces and metrics", default=Observability())

    @property
    def reduced(self) -> PlatformConfig:
        """The configuration without the parts that its profile leaves out."""
        fields = left_out(self.profile) if self.profile else {}
        sections = {area: getattr(self, area).model_copy(update=dict.fromkeys(names)) for area, names in fields.items()}
        return self.model_copy(update=sections)

    @property
    def own_mesh(self) -> bool:
        """Whether the platform runs Istio itself. Elsewhere, Istio's charts do."""
        return self.environment is Environment.LOCAL and self.mesh.mode is not MeshMode.OFF

    @property
    def gateway_traces(self) -> bool:
        """Whether the gateway begins the trace of each request. Kong's does not."""
        return self.observability.traces is not None and self.gateway.engine is GatewayEngine.ENVOY

    @property
    def asked_images(self) -> tuple[str, ...]:
        """Names of the images of optional parts."""
        return (
            *self.security.images,
            *self.observability.images,
            *(self.mesh.images if self.own_mesh else ()),
            *(record.image for record in self.services.records.values() if record.asked),
        )

    @property
    def around(self) -> Surroundings:
        """The sections that hooks in service records may read."""
        services, security = self.services, self.security
        logins = security.keycloak or any(getattr(section, "login", None) for section in services.there.values())
        return Surroundings(self.data, self.gateway, services.records, security, bool(logins))
