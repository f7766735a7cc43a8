"""Inputs of a gateway: hosts, routes, limits and authentication, for Envoy and for Kong."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Self

import pulumi
from pydantic import Field, model_validator

from components.config.base import Cpu, Hostname, Memory, ObjectName, first_duplicate
from components.config.eks import AnyCidr
from components.config.gateway import Cors as CorsConfig
from components.config.gateway import Gateway as GatewayConfig
from components.config.gateway import Oidc as OidcConfig
from components.config.gateway import Origin, RateLimit
from components.config.observability import Observability
from components.config.problems import violation
from components.inputs import AnyText, Inputs, Port, Text, same_as
from components.mesh import routes
from components.mesh.routes import GatewayIntent

_LARGEST_BODY = 2**30


class Backend(Inputs):
    """A service behind the gateway."""

    name: ObjectName = Field(description="Name of the service")
    host: Hostname = Field(description="DNS name of its Kubernetes Service")
    port: Port = Field(description="TCP port of its Kubernetes Service")

    @property
    def intent(self) -> routes.Backend:
        """As renderers take it."""
        return routes.Backend(self.name, self.host, self.port)


class Route(Inputs):
    """Forwards requests below a path prefix to a backend."""

    prefix: str = Field(pattern="^/", max_length=200, description="Path prefix")
    backend: Backend = Field(description="The service that answers")
    timeout_seconds: int = same_as(GatewayConfig, "request_timeout_seconds")
    idle_timeout_seconds: int = same_as(GatewayConfig, "idle_timeout_seconds")
    max_body_bytes: int = Field(default=2**20, ge=1, le=_LARGEST_BODY, description="Largest request body in bytes")
    encoded_slash: bool = Field(default=False, description="Whether names below the prefix may contain slashes")


class Rate(Inputs):
    """A token bucket."""

    per_second: int = Field(ge=1, le=1_000_000, description="Requests per second in the long run")
    burst: int = Field(ge=1, le=10_000_000, description="Requests that may come at once")

    @model_validator(mode="after")
    def _covers(self) -> Self:
        if self.burst < self.per_second:
            raise violation("burst at least per_second", f"set burst to {self.per_second} or more")
        return self


def _default_rates() -> Rates:
    limit = RateLimit()
    key = Rate(per_second=limit.requests_per_second, burst=limit.burst)
    most = limit.address_requests_per_second
    return Rates(per_key=key, per_address=Rate(per_second=most, burst=2 * most))


class Rates(Inputs):
    """Rate limits."""

    per_key: Rate = Field(description="For each API key")
    per_address: Rate = Field(description="For each client address, with any keys")


class Oidc(Inputs):
    """Tokens of an OpenID Connect provider."""

    issuer: str = same_as(OidcConfig, "issuer")
    audience: str = same_as(OidcConfig, "audience")


class Cors(Inputs):
    """Web pages that may read answers."""

    origins: list[Origin] = Field(min_length=1, max_length=50, description="Exact origins")
    max_age_seconds: int = same_as(CorsConfig, "max_age_seconds")


class Operators(Inputs):
    """Addresses that may use paths below /v1/admin."""

    public: bool = Field(default=True, description="Whether all addresses may")
    addresses: list[AnyCidr] = Field(default_factory=list[str], max_length=50, description="Networks that may")


class Document(Inputs):
    """OpenAPI document that the gateway serves."""

    path: str = Field(pattern="^/", max_length=200, description="Path at the gateway")
    backend: Backend = Field(description="The service that has the document")
    path_there: str = Field(pattern="^/", max_length=200, description="Path at the service")
    operators: bool = Field(default=False, description="Whether it is served only where paths below /v1/admin are")


class OperatorOperation(Inputs):
    """An operation for operators only."""

    method: str = Field(pattern="^[A-Z]+$", max_length=20, description="HTTP method")
    path: str = Field(pattern="^/", max_length=300, description="Path; its variables are segments in braces")


class Authorizer(Inputs):
    """A server that decides about each request."""

    host: Hostname = Field(description="DNS name of its headless Kubernetes Service")
    port: Port = Field(description="TCP port of its pods")
    closed: bool = Field(default=True, description="Whether requests are refused while no decision can be had")
    shows_body: bool = Field(default=False, description="Whether it receives the first 8 KiB of bodies")
    operators: list[OperatorOperation] = Field(
        default_factory=list[OperatorOperation], description="Operations that are refused without a decision always"
    )
    decision_ms: int = Field(default=50, ge=10, le=5000, description="Longest time of a decision, in milliseconds")

    @property
    def intent(self) -> routes.Authorizer:
        """As renderers take it."""
        operators = tuple(routes.OperatorOperation(one.method, one.path) for one in self.operators)
        return routes.Authorizer(self.host, self.port, self.closed, self.shows_body, operators, self.decision_ms)


class Spans(Inputs):
    """A server that receives the gateway's spans."""

    host: Hostname = Field(description="DNS name of its Kubernetes Service")
    port: Port = Field(description="TCP port of its Kubernetes Service")
    ratio: float = same_as(Observability, "trace_sample_ratio")

    @property
    def intent(self) -> routes.Spans:
        """As renderers take it."""
        return routes.Spans(self.host, self.port, self.ratio)


class EntryInputs(Inputs):
    """What both gateways' inputs may hold."""

    namespace: Text = Field(description="Namespace in Kubernetes")
    keys: dict[ObjectName, Text] = Field(description="API key by client name")
    certificate_secret: Text = Field(description="Name of a Secret of type kubernetes.io/tls")
    hosts: list[Hostname] = Field(min_length=1, max_length=50, description="Host names for clients")
    port: int = same_as(GatewayConfig, "port")
    routes: list[Route] = Field(min_length=1, max_length=500, description="Where requests go, by path prefix")
    rates: Rates = Field(default_factory=_default_rates, description="Rate limits")
    services_ask: bool = Field(default=False, description="Whether the services check API keys")
    cors: Cors | None = Field(default=None, description="Web pages that may read answers")
    about: str = Field(default="", max_length=10_000, description="JSON body of `GET /`")
    documents: list[Document] = Field(default_factory=list[Document], description="OpenAPI documents that it serves")
    operators: Operators = Field(default=Operators(), description="Addresses that may use paths below /v1/admin")
    replicas: int = same_as(GatewayConfig, "replicas")
    cpu: Cpu = Field(default="50m", description="CPU request per replica")
    memory: Memory = Field(default="192Mi", description="Memory request and limit per replica")
    customize: Any = Field(default=None, description="Settings of the pods")

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if duplicate := first_duplicate(tuple(one.prefix for one in self.routes)):
            raise violation(f'prefixes of routes must be unique; "{duplicate}" occurs twice', "remove one")
        return self

    def shown(self) -> dict[str, Any]:
        """Inputs that the stack's state shows."""
        hidden = {
            "authorizer",
            "names_backends",
            "spans",
            "hosts",
            "port",
            "routes",
            "rates",
            "services_ask",
            "cors",
            "about",
            "documents",
            "operators",
            "oidc",
        }
        found = {name: getattr(self, name) for name in type(self).model_fields if name not in hidden}
        return {name: one for name, one in found.items() if one is not None} | {"keys": pulumi.Output.secret(self.keys)}

    def intent_with(
        self,
        oidc: Oidc | None = None,
        authorizer: Authorizer | None = None,
        spans: Spans | None = None,
        *,
        names_backends: bool = False,
    ) -> GatewayIntent:
        """The gateway's intent, as renderers take it."""
        key, address, cors = self.rates.per_key, self.rates.per_address, self.cors
        return GatewayIntent(
            hosts=tuple(self.hosts),
            port=self.port,
            routes=tuple(
                routes.Route(
                    one.prefix,
                    one.backend.intent,
                    one.timeout_seconds,
                    one.idle_timeout_seconds,
                    one.max_body_bytes,
                    one.encoded_slash,
                )
                for one in self.routes
            ),
            rates=routes.Rates((key.per_second, key.burst), (address.per_second, address.burst)),
            oidc=routes.Oidc(oidc.issuer, oidc.audience) if oidc else None,
            services_ask=self.services_ask,
            cors=routes.Cors(tuple(cors.origins), cors.max_age_seconds) if cors else None,
            about=self.about,
            documents=tuple(
                routes.Document(one.path, one.backend.intent, one.path_there, one.operators) for one in self.documents
            ),
            operators=routes.Operators(self.operators.public, tuple(self.operators.addresses)),
            authorizer=authorizer.intent if authorizer else None,
            spans=spans.intent if spans else None,
            names_backends=names_backends,
        )


class GatewayInputs(EntryInputs):
    """What `GatewayArgs` may hold."""

    image: Text = Field(description="Image of Envoy, by digest")
    certificate_version: AnyText = Field(default="", description="A value that changes with the certificate")
    authorizer: Authorizer | None = Field(default=None, description="Server that decides about each request")
    spans: Spans | None = Field(default=None, description="Server that receives the gateway's spans")
    names_backends: bool = Field(default=False, description="Whether the Host of forwarded requests is the backend's")
    local_port_offset: int = Field(default=0, ge=0, le=60_000, description="Offset of the local load balancer's port")


class KongGatewayInputs(EntryInputs):
    """What `KongGatewayArgs` may hold."""

    oidc: Oidc | None = Field(default=None, description="Tokens of an OpenID Connect provider in place of API keys")


def intent_args(intent: GatewayIntent) -> dict[str, Any]:
    """The inputs that an intent stands for."""
    found = json.loads(json.dumps(dataclasses.asdict(intent)))
    rates = {kind: {"per_second": rate, "burst": burst} for kind, (rate, burst) in found["rates"].items()}
    if intent.authorizer is None:
        del found["authorizer"]  # which Kong's gateway does not take
    if intent.spans is None:
        del found["spans"]  # likewise
    if not intent.names_backends:
        del found["names_backends"]  # likewise
    return {**found, "rates": rates}
