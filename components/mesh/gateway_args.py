"""Inputs of a gateway as programs write them, for Envoy and for Kong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

import pulumi

from components.pods import CustomizeArgs


class BackendArgs(TypedDict):
    """A service behind the gateway."""

    name: str
    """Name of the service, for metrics and errors."""
    host: str
    """DNS name of its Kubernetes Service, such as "notes.shop"."""
    port: int
    """TCP port of its Kubernetes Service."""


class RouteArgs(TypedDict):
    """Forwards requests below a path prefix to a backend."""

    prefix: str
    """Path prefix. With a final "/", it matches all paths that begin with it; otherwise this path and all below it."""
    backend: BackendArgs
    """The service that answers."""
    timeout_seconds: NotRequired[int]
    """Longest duration of a request in seconds, streams included. Default 300."""
    idle_timeout_seconds: NotRequired[int]
    """Longest time without data in seconds. Default 60."""
    max_body_bytes: NotRequired[int]
    """Largest request body in bytes. Default 1 MiB."""
    encoded_slash: NotRequired[bool]
    """Whether names below the prefix may contain slashes, encoded as %2F. Default false."""


class RateArgs(TypedDict):
    """A token bucket."""

    per_second: int
    """Requests per second in the long run."""
    burst: int
    """Requests that may come at once."""


class RatesArgs(TypedDict):
    """Rate limits."""

    per_key: RateArgs
    """For each API key."""
    per_address: RateArgs
    """For each client address, with any keys."""


class OidcArgs(TypedDict):
    """Tokens of an OpenID Connect provider."""

    issuer: str
    """URL of the provider."""
    audience: str
    """Audience that tokens must name."""


class CorsArgs(TypedDict):
    """Web pages that may read answers."""

    origins: Sequence[str]
    """Exact origins, such as "https://app.example.com"."""
    max_age_seconds: NotRequired[int]
    """Seconds that a browser may cache the answer to a preflight request. Default 600."""


class OperatorsArgs(TypedDict):
    """Addresses that may use paths below /v1/admin."""

    public: NotRequired[bool]
    """Whether all addresses may. Default true."""
    addresses: NotRequired[Sequence[str]]
    """Networks in CIDR notation that may, while `public` is false. Default: none."""


class DocumentArgs(TypedDict):
    """OpenAPI document that the gateway serves."""

    path: str
    """Path at the gateway."""
    backend: BackendArgs
    """The service that has the document."""
    path_there: str
    """Path at the service."""
    operators: NotRequired[bool]
    """Whether it is served only where paths below /v1/admin are. Default false."""


class OperatorOperationArgs(TypedDict):
    """An operation for operators only."""

    method: str
    """HTTP method."""
    path: str
    """Path; its variables are segments in braces."""


class AuthorizerArgs(TypedDict):
    """A server that decides about each request, with Envoy's ext_authz over gRPC."""

    host: str
    """DNS name of its headless Kubernetes Service."""
    port: int
    """TCP port of its pods."""
    closed: NotRequired[bool]
    """Whether requests are refused while no decision can be had. Default true."""
    shows_body: NotRequired[bool]
    """Whether it receives the first 8 KiB of bodies. Default false."""
    operators: NotRequired[Sequence[OperatorOperationArgs]]
    """Operations that are refused without a decision even where `closed` is false. Default: none."""
    decision_ms: NotRequired[int]
    """Longest time of a decision in milliseconds, 10 to 5000. Default 50."""


class SpansArgs(TypedDict):
    """A server that receives the gateway's spans, by OTLP over gRPC."""

    host: str
    """DNS name of its Kubernetes Service."""
    port: int
    """TCP port of its Kubernetes Service."""
    ratio: NotRequired[float]
    """Share of the requests that are recorded, here and by the services behind the gateway. Default 1."""


class EntryArgs(CustomizeArgs):
    """Inputs that both gateways share."""

    namespace: pulumi.Input[str]
    """Namespace in Kubernetes."""
    keys: Mapping[str, pulumi.Input[str]]
    """API key by client name."""
    certificate_secret: pulumi.Input[str]
    """Name of a Secret of type kubernetes.io/tls, such as `Certificate.secret_name`."""
    hosts: Sequence[str]
    """Host names for clients. The certificate covers them."""
    port: NotRequired[int]
    """HTTPS port for clients. Default 443."""
    routes: Sequence[RouteArgs]
    """Where requests go, by path prefix."""
    rates: NotRequired[RatesArgs]
    """Rate limits. Default: 500 requests per second and key, 2000 per second and address, and twice that at once."""
    services_ask: NotRequired[bool]
    """Whether the services check API keys, which the gateway then forwards. Default false: the gateway checks and
    removes them."""
    cors: NotRequired[CorsArgs]
    """Web pages that may read answers. Default: none."""
    about: NotRequired[str]
    """JSON body of `GET /`. Default: the path does not exist."""
    documents: NotRequired[Sequence[DocumentArgs]]
    """OpenAPI documents that the gateway serves. Default: none."""
    operators: NotRequired[OperatorsArgs]
    """Addresses that may use paths below /v1/admin. Default: all."""
    replicas: NotRequired[int]
    """Replicas of the proxy. Default 1."""
    cpu: NotRequired[str]
    """CPU request per replica, a Kubernetes quantity. Default "50m"."""
    memory: NotRequired[str]
    """Memory request and limit per replica, a Kubernetes quantity. Default "192Mi"."""


class GatewayArgs(EntryArgs):
    """Inputs of the gateway."""

    image: pulumi.Input[str]
    """Image of Envoy, by digest."""
    certificate_version: NotRequired[pulumi.Input[str]]
    """A value that changes with the certificate, so that a new certificate restarts the pods. Default: empty."""
    authorizer: NotRequired[AuthorizerArgs]
    """Server that decides about each request. Default: none."""
    spans: NotRequired[SpansArgs]
    """Server that receives the gateway's spans. The gateway then begins the trace of each request, and removes the
    trace headers of clients. Default: none."""
    names_backends: NotRequired[bool]
    """Whether a forwarded request has the backend's name as its Host, as sidecars of a mesh need it. Default false."""
    local_port_offset: NotRequired[int]
    """Offset that the local load balancer adds to the port, since it shares the machine's addresses. Default 0."""


class KongGatewayArgs(EntryArgs):
    """Inputs of the gateway."""

    oidc: NotRequired[OidcArgs]
    """Tokens of an OpenID Connect provider in place of API keys. Default: none."""
