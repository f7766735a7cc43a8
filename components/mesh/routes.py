"""What the gateway should do, whatever does it: hosts, routes, timeouts, limits, who may call."""

from __future__ import annotations

import re
from dataclasses import dataclass

REFUSED_PATHS = (
    r".*%5[cC].*",
    r".*(/|%2[fF])(\.|%2[eE]){0,2}%2[fF].*",
    r".*%2[fF](\.|%2[eE]){0,2}(/.*|%2[fF].*)?",
)
"""Paths that no route takes, each a regular expression for the whole path without its query: an encoded backslash,
and an encoded slash beside an empty segment, "." or "..".

A service that decodes these sees another path than the gateway does."""

ENCODED_SLASH = r".*%2[fF].*"
"""A path with an encoded slash. Only routes with `encoded_slash` take it."""

HIDDEN_HEADERS = (
    "server",
    "via",
    "x-powered-by",
    "x-router-target",
    "x-envoy-upstream-service-time",
    "x-kong-proxy-latency",
    "x-kong-upstream-latency",
)
"""Headers of answers that name what runs inside, or how long it took there. Callers do not get them."""


@dataclass(frozen=True)
class Backend:
    """A service behind the gateway."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class Oidc:
    """Callers show a token of an OpenID Connect provider."""

    issuer: str
    audience: str


@dataclass(frozen=True)
class Cors:
    """Web pages of these origins may read answers. Cookies are never allowed: callers show a key."""

    origins: tuple[str, ...]
    """Exact origins, such as "https://app.example.com"."""
    max_age_seconds: int
    """How long a browser may keep the answer to a preflight request."""


OPERATORS_PREFIX = "/v1/admin"
"""Operators' paths of the router."""


@dataclass(frozen=True)
class Operators:
    """From where operators' paths are answered."""

    public: bool = True
    """Whether from everywhere, as all other paths."""
    addresses: tuple[str, ...] = ()
    """Networks in CIDR notation from which they are answered although they are not public."""


@dataclass(frozen=True)
class Rates:
    """How many requests are let through: token buckets of a rate a second and a burst."""

    per_key: tuple[int, int]
    """For each API key."""
    per_address: tuple[int, int]
    """For each client address, whatever keys it shows."""


@dataclass(frozen=True)
class Route:
    """Requests under a path prefix go to a backend."""

    prefix: str
    """Ends with "/": everything that begins with it. Otherwise: this path and everything below it."""
    backend: Backend
    timeout_seconds: int
    idle_timeout_seconds: int
    max_body_bytes: int
    """The largest body that callers may announce."""
    encoded_slash: bool = False
    """Whether names below the prefix may hold a slash, written as %2F, which the service decodes."""

    @property
    def encoded(self) -> str:
        """A regular expression for the paths below the prefix that hold an encoded slash."""
        return re.escape(self.prefix.rstrip("/")) + "/" + ENCODED_SLASH


@dataclass(frozen=True)
class Document:
    """The OpenAPI document of a service, at a path of its own."""

    path: str
    backend: Backend
    path_there: str


@dataclass(frozen=True)
class GatewayIntent:
    """The gateway's whole behaviour. Renderers turn it into Envoy's or Kong's configuration."""

    hosts: tuple[str, ...]
    port: int
    routes: tuple[Route, ...]
    rates: Rates
    oidc: Oidc | None = None
    """None: callers show an API key."""
    services_ask: bool = False
    """Whether the services themselves look at the keys, which are passed on; else the gateway does, and keeps them."""
    cors: Cors | None = None
    """None: answers carry no CORS headers, so that no web page may read them."""
    about: str = ""
    """JSON that `GET /` answers with; empty: there is no such path."""
    documents: tuple[Document, ...] = ()
    operators: Operators = Operators()
