"""What the gateway should do, whatever does it: hosts, routes, timeouts, limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backend:
    """A service behind the gateway."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class Route:
    """Requests under a path prefix go to a backend."""

    prefix: str
    backend: Backend
    timeout_seconds: int
    idle_timeout_seconds: int


@dataclass(frozen=True)
class GatewayIntent:
    """The gateway's whole behaviour. Renderers turn it into Envoy's or Kong's configuration."""

    hosts: tuple[str, ...]
    port: int
    routes: tuple[Route, ...]
    max_body_bytes: int
    requests_per_second: int
    burst: int
