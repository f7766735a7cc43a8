"""The gateway's intent, independent of the proxy: hosts, routes, timeouts, limits, authentication."""

from __future__ import annotations

import re
from dataclasses import dataclass

REFUSED_PATHS = (
    r".*%5[cC].*",
    r".*(/|%2[fF])(\.|%2[eE]){0,2}%2[fF].*",
    r".*%2[fF](\.|%2[eE]){0,2}(/.*|%2[fF].*)?",
)
"""Refused paths, as regular expressions for the whole path without the query: an encoded backslash, and an encoded
slash next to an empty segment, "." or "..".

A service that decodes such a path would see another path than the gateway."""

ENCODED_SLASH = r".*%2[fF].*"
"""Regular expression for paths with an encoded slash. Only routes with `encoded_slash` accept them."""

HIDDEN_HEADERS = (
    "server",
    "via",
    "x-powered-by",
    "x-router-target",
    "x-envoy-upstream-service-time",
    "x-kong-proxy-latency",
    "x-kong-upstream-latency",
)
"""Response headers that reveal internal software or timing. The gateway removes them."""


@dataclass(frozen=True)
class Backend:
    """A service behind the gateway."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class Oidc:
    """Authentication with tokens of an OpenID Connect provider."""

    issuer: str
    audience: str


@dataclass(frozen=True)
class Cors:
    """Web pages of these origins may read answers. Cookies are never allowed, since callers send a key."""

    origins: tuple[str, ...]
    """Exact origins, such as "https://app.example.com"."""
    max_age_seconds: int
    """Seconds that a browser may cache the answer to a preflight request."""


OPERATORS_PREFIX = "/v1/admin"
"""Prefix of the Router's paths for operators."""
OPERATORS_DOCUMENTS = {"/openapi.json": f"{OPERATORS_PREFIX}/openapi.json", "/docs": f"{OPERATORS_PREFIX}/docs"}
"""Documents of all APIs, for operators. Key: path at the gateway; value: path at the Router."""


@dataclass(frozen=True)
class Operators:
    """Addresses that may use the operators' paths."""

    public: bool = True
    """Whether all addresses may."""
    addresses: tuple[str, ...] = ()
    """Networks in CIDR notation that may, while `public` is false."""


@dataclass(frozen=True)
class Rates:
    """Rate limits: token buckets, each with a rate per second and a burst."""

    per_key: tuple[int, int]
    """Rate per API key."""
    per_address: tuple[int, int]
    """Rate per client address, with any keys."""


@dataclass(frozen=True)
class Route:
    """Forwards requests below a path prefix to a backend."""

    prefix: str
    """Path prefix. With a final "/", it matches all paths that begin with it; otherwise this path and all below it."""
    backend: Backend
    timeout_seconds: int
    idle_timeout_seconds: int
    max_body_bytes: int
    """Largest content-length in bytes."""
    encoded_slash: bool = False
    """Whether names below the prefix may contain slashes, encoded as %2F. The service decodes them."""

    @property
    def encoded(self) -> str:
        """Regular expression for paths below the prefix with an encoded slash."""
        return re.escape(self.prefix.rstrip("/")) + "/" + ENCODED_SLASH


@dataclass(frozen=True)
class Document:
    """OpenAPI document of a service, or of all services, served by the gateway."""

    path: str
    backend: Backend
    path_there: str
    operators: bool = False
    """Whether it is answered only where operators' paths are."""


@dataclass(frozen=True)
class OperatorOperation:
    """An operation for operators only."""

    method: str
    path: str
    """Its variables are segments in braces."""


@dataclass(frozen=True)
class Authorizer:
    """A server that decides about each request, with Envoy's ext_authz over gRPC."""

    host: str
    port: int
    closed: bool = True
    """Whether requests are refused while no decision can be had; those to `operators` always are."""
    shows_body: bool = False
    """Whether the authorizer receives the beginning of the body."""
    operators: tuple[OperatorOperation, ...] = ()
    decision_ms: int = 50
    """Longest time of a decision. Without one, the request is refused or allowed as `closed` says."""


@dataclass(frozen=True)
class Spans:
    """A server that receives the gateway's spans, by OTLP over gRPC."""

    host: str
    port: int
    ratio: float = 1.0
    """Share of the requests that are recorded, here and by the services behind the gateway."""


@dataclass(frozen=True)
class GatewayIntent:
    """Desired behaviour of the gateway. Renderers turn it into a configuration for Envoy or Kong."""

    hosts: tuple[str, ...]
    port: int
    routes: tuple[Route, ...]
    rates: Rates
    oidc: Oidc | None = None
    """None: callers send an API key."""
    services_ask: bool = False
    """Whether the services check API keys, which the gateway then forwards. Otherwise the gateway checks and removes
    them."""
    cors: Cors | None = None
    """None: answers have no CORS headers, so that web pages cannot read them."""
    about: str = ""
    """JSON body of `GET /`; empty means that the path does not exist."""
    documents: tuple[Document, ...] = ()
    operators: Operators = Operators()
    authorizer: Authorizer | None = None
    """None: no server decides about requests, beside the gateway and the services."""
    spans: Spans | None = None
    """None: the gateway records no spans, and forwards the trace headers of clients."""
    names_backends: bool = False
    """Whether a forwarded request has the backend's name as its Host, by which a sidecar finds the backend. The
    client's Host is then in X-Forwarded-Host."""
