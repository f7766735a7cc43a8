"""What the gateway should do, whatever does it: hosts, routes, timeouts, limits, who may call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backend:
    """A service behind the gateway."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class ExternalModel:
    """A model of somebody else's, asked through the gateway with a credential that clients never see."""

    name: str
    provider: str
    """As Kong's ai-proxy names it: "openai", "anthropic", "azure", "bedrock", "gemini", "mistral"."""
    model: str
    """The provider's name of the model."""
    secret_name: str
    """Secret whose entry `authorization` is the whole header, such as "Bearer ..."."""


@dataclass(frozen=True)
class Oidc:
    """Callers show a token of an OpenID Connect provider."""

    issuer: str
    audience: str


@dataclass(frozen=True)
class Route:
    """Requests under a path prefix go to a backend."""

    prefix: str
    backend: Backend
    timeout_seconds: int
    idle_timeout_seconds: int
    external: ExternalModel | None = None
    """Asked instead of the backend."""


@dataclass(frozen=True)
class GatewayIntent:
    """The gateway's whole behaviour. Renderers turn it into Envoy's or Kong's configuration."""

    hosts: tuple[str, ...]
    port: int
    routes: tuple[Route, ...]
    max_body_bytes: int
    requests_per_second: int
    burst: int
    oidc: Oidc | None = None
    """None: callers show an API key."""
    services_ask: bool = False
    """Whether the services themselves look at the keys, which are passed on; else the gateway does, and keeps them."""
