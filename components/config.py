"""The typed configuration of an environment: one file, all mistakes reported at once.

Every field says what happens when it changes: `immutable` (the environment must be made anew),
`disruptive` (requests may fail while it is applied) or `safe`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from components.config_problems import violation


class Change(StrEnum):
    """What changing a field does to a running environment."""

    SAFE = "safe"
    DISRUPTIVE = "disruptive"
    IMMUTABLE = "immutable"


class Environment(StrEnum):
    """The four environments."""

    LOCAL = "local"
    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class ClusterKind(StrEnum):
    """Where the platform runs."""

    LOCAL = "local"
    """The Kubernetes node that `forge up` starts on this machine."""
    EXISTING = "existing"
    """A cluster that a kubeconfig context names."""


class ImageSource(StrEnum):
    """Where the platform's own images come from."""

    LOCAL_BUILD = "local-build"
    """Built, signed and pushed to a loopback registry by `forge up`."""
    REGISTRY = "registry"
    """Released images, by the digests in versions.lock.yaml."""


class LogLevel(StrEnum):
    """How much the services log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ModelEngine(StrEnum):
    """What serves a model."""

    SIMULATOR = "simulator"
    """llm-d's vLLM simulator: the API and the metrics without a model or a GPU."""


_DECIMAL_UNITS = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS = {**_DECIMAL_UNITS, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)$")


def quantity(text: str) -> Decimal:
    """The number that a Kubernetes quantity such as "250m" or "1Gi" stands for. Raises ValueError."""
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(text)
    return Decimal(match[1]) * _UNITS[match[2]]


def _quantity_between(low: str, high: str, example: str) -> AfterValidator:
    def check(text: str) -> str:
        try:
            number = quantity(text)
        except ValueError:
            raise violation("a Kubernetes quantity", f'write it like "{example}"') from None
        if not quantity(low) <= number <= quantity(high):
            raise violation(f"between {low} and {high}", f'choose a value in that range, such as "{example}"')
        return text

    return AfterValidator(check)


def _matching(pattern: str, limit: str, fix: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise violation(limit, fix)
        return text

    return AfterValidator(check)


Cpu = Annotated[str, _quantity_between("10m", "64", "250m")]
"""CPU as a Kubernetes quantity, "10m" to "64"."""
Memory = Annotated[str, _quantity_between("16Mi", "1Ti", "256Mi")]
"""Memory as a Kubernetes quantity, "16Mi" to "1Ti"."""
BodySize = Annotated[str, _quantity_between("1Ki", "1Gi", "16Mi")]
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DnsLabel = Annotated[
    str,
    Field(max_length=40),
    _matching(_LABEL, "lower-case letters, digits and hyphens (RFC 1123)", 'write it like "my-name"'),
]
Hostname = Annotated[
    str,
    Field(max_length=253),
    _matching(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", "a DNS host name", 'write it like "api.example.com"'),
]
ModelName = Annotated[
    str,
    Field(max_length=200),
    _matching(r"[A-Za-z0-9][A-Za-z0-9._:/-]*", "letters, digits and . _ : / -", 'write it like "org/model-7b"'),
]


def setting(change: Change, description: str, **options: Any) -> Any:
    """A field with its upgrade mark. `description` is shown by editors through the JSON Schema."""
    return Field(description=description, json_schema_extra={"x-change": change.value}, **options)


class Section(BaseModel):
    """Base of all sections: unknown fields are mistakes; names are camelCase in YAML."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Resources(Section):
    """What a container may use. Memory is both request and limit; CPU is a request, never a limit."""

    cpu: Cpu = setting(Change.SAFE, "CPU request, such as 250m", default="50m")
    memory: Memory = setting(Change.SAFE, "Memory request and limit, such as 256Mi", default="256Mi")


class Cluster(Section):
    """Where the platform runs."""

    kind: ClusterKind = setting(Change.IMMUTABLE, "local or existing", strict=False)
    context: str = setting(Change.IMMUTABLE, "kubeconfig context of an existing cluster", default="", max_length=253)
    namespace: DnsLabel = setting(Change.IMMUTABLE, "Namespace of the platform", default="cogniforge")

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        if self.kind is ClusterKind.EXISTING and not self.context:
            raise violation("context is required when kind is existing", "name a context of your kubeconfig")
        if self.kind is ClusterKind.LOCAL and self.context:
            raise violation("context has no meaning when kind is local", "remove context, or set kind: existing")
        return self


class Images(Section):
    """Where the platform's own images come from."""

    source: ImageSource = setting(Change.DISRUPTIVE, "local-build or registry", strict=False)
    registry: Annotated[
        str,
        _matching(r"|[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*", "a registry host and path", 'write it like "ghcr.io/acme"'),
    ] = setting(Change.DISRUPTIVE, "Registry host and path that hold the released images", default="")

    @model_validator(mode="after")
    def _registry_fits(self) -> Self:
        if self.source is ImageSource.REGISTRY and not self.registry:
            raise violation("registry is required when source is registry", 'add it, such as "ghcr.io/acme"')
        return self


class RateLimit(Section):
    """How many requests the gateway lets through."""

    requests_per_second: int = setting(Change.SAFE, "Sustained rate, all clients", default=500, ge=1, le=100_000)
    burst: int = setting(Change.SAFE, "Requests above the rate in one go", default=1000, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _burst_covers_rate(self) -> Self:
        if self.burst < self.requests_per_second:
            raise violation(
                "burst must be at least requestsPerSecond", f"set burst to {self.requests_per_second} or more"
            )
        return self


class Gateway(Section):
    """The entrance: hosts, limits, timeouts."""

    hosts: tuple[Hostname, ...] = setting(
        Change.DISRUPTIVE, "Host names that the certificate covers", min_length=1, max_length=20, strict=False
    )
    port: int = setting(Change.DISRUPTIVE, "HTTPS port that clients use", default=443, ge=1, le=65535)
    replicas: int = setting(Change.SAFE, "Data plane replicas", default=1, ge=1, le=50)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="50m", memory="192Mi"))
    request_timeout_seconds: int = setting(Change.SAFE, "Whole request, streams included", default=300, ge=1, le=3600)
    idle_timeout_seconds: int = setting(Change.SAFE, "Stream without data", default=60, ge=1, le=3600)
    max_body_size: BodySize = setting(Change.SAFE, "Largest request body", default="16Mi")
    rate_limit: RateLimit = setting(Change.SAFE, "Requests let through", default=RateLimit())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.idle_timeout_seconds > self.request_timeout_seconds:
            raise violation(
                "idleTimeoutSeconds must not exceed requestTimeoutSeconds",
                f"lower idleTimeoutSeconds to {self.request_timeout_seconds} or less",
            )
        if duplicate := first_duplicate(self.hosts):
            raise violation(f'hosts must be unique; "{duplicate}" is there twice', "remove one")
        return self


class Model(Section):
    """One model: what serves it, and how clients name it."""

    name: ModelName = setting(Change.DISRUPTIVE, "Name that clients use")
    engine: ModelEngine = setting(Change.DISRUPTIVE, "What serves it", default=ModelEngine.SIMULATOR, strict=False)
    replicas: int = setting(Change.SAFE, "Servers of this model", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="50m", memory="128Mi"))
    context_tokens: int = setting(Change.DISRUPTIVE, "Longest context in tokens", default=8192, ge=256, le=2_000_000)
    timeout_seconds: int = setting(Change.SAFE, "Limit of one answer", default=120, ge=1, le=3600)
    first_token_milliseconds: int = setting(
        Change.SAFE, "Simulated time to the first token", default=0, ge=0, le=60_000
    )
    token_milliseconds: int = setting(Change.SAFE, "Simulated time between tokens", default=0, ge=0, le=10_000)


class Router(Section):
    """The AI Router."""

    replicas: int = setting(Change.SAFE, "Replicas", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="100m", memory="256Mi"))


class Services(Section):
    """The bundled AI services."""

    router: Router = setting(Change.SAFE, "One API in front of every model", default=Router())


class Observability(Section):
    """Logs and traces."""

    log_level: LogLevel = setting(Change.SAFE, "How much is logged", default=LogLevel.INFO, strict=False)
    otlp_endpoint: Annotated[
        str,
        _matching(r"|https?://[^\s/]+(:\d+)?", "an http(s) URL without a path", 'write "http://collector:4318"'),
    ] = setting(Change.SAFE, "Where traces go; empty: nowhere", default="")
    trace_sample_ratio: float = setting(Change.SAFE, "Share of requests traced", default=1.0, ge=0, le=1)


class PlatformConfig(Section):
    """The whole configuration of an environment."""

    environment: Environment = setting(Change.IMMUTABLE, "local, dev, staging or prod", strict=False)
    owner: str = setting(Change.SAFE, "Who answers for this environment", min_length=1, max_length=63)
    cluster: Cluster = setting(Change.IMMUTABLE, "Where the platform runs")
    images: Images = setting(Change.DISRUPTIVE, "Where the platform's own images come from")
    gateway: Gateway = setting(Change.DISRUPTIVE, "The entrance")
    models: tuple[Model, ...] = setting(
        Change.SAFE, "Models that clients can ask", min_length=1, max_length=100, strict=False
    )
    services: Services = setting(Change.SAFE, "The bundled AI services", default=Services())
    observability: Observability = setting(Change.SAFE, "Logs and traces", default=Observability())


def first_duplicate(values: tuple[str, ...]) -> str | None:
    """The first value that is there twice."""
    return next((v for i, v in enumerate(values) if v in values[:i]), None)


def json_schema() -> str:
    """The JSON Schema for editors, as kept in stacks/platform.schema.json."""
    schema = PlatformConfig.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2) + "\n"
