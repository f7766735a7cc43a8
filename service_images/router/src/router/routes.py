"""The route table: upstreams of each model, strategies, and limits of tenants."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self

from kit.limits import ID, MODEL
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, model_validator


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Strategy(StrEnum):
    """How a target is chosen among the healthy ones."""

    WEIGHTED = "weighted"
    """By weight, for A/B tests; sticky per caller if `sticky` is set."""
    CANARY = "canary"
    """A growing share for one target, which is withdrawn if it fails or is slow."""
    BANDIT = "bandit"
    """Thompson sampling on a reward from feedback, latency and cost."""
    LEAST_LATENCY = "least-latency"
    """The lowest moving average of latency times requests in flight."""
    CONSISTENT_HASH = "consistent-hash"
    """The same caller uses the same target; few callers move when targets change."""
    PREFIX = "prefix"
    """Requests with the same beginning use the same target, whose cache may contain it."""


class Guardrails(StrEnum):
    """Whether Guardrails checks requests and answers."""

    OFF = "off"
    ON = "on"
    """Checks are enabled; if Guardrails is unavailable, requests continue unchecked."""
    REQUIRED = "required"
    """Checks are required; if Guardrails is unavailable, requests are refused."""


class Api(StrEnum):
    """API of a model server."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    """The Messages API; the Router translates chat completions."""


class Target(_Frozen):
    """One server of a model."""

    name: str = Field(default="", pattern=r"^[\x20-\x7e]{0,128}$")
    """Name in metrics and feedback; empty: host and port of the upstream."""
    upstream: HttpUrl
    """Base URL of an OpenAI-compatible server, without /v1."""
    upstream_model: str = ""
    """Name of the model at the upstream; empty: the same name."""
    weight: float = Field(default=1, ge=0, le=1_000_000)
    input_price: float = Field(default=0, ge=0)
    """US dollars per million input tokens."""
    output_price: float = Field(default=0, ge=0)
    """US dollars per million output tokens."""
    api: Api = Api.OPENAI
    """API of the server."""
    credential: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.-]{0,62})?$")
    """Name of the credential's file for an external model's host; empty: no credential is sent."""

    @model_validator(mode="after")
    def _private(self) -> Self:
        if self.credential and self.upstream.scheme != "https" and self.upstream.host not in ("127.0.0.1", "localhost"):
            raise ValueError("a credential requires an https URL")
        return self

    @property
    def label(self) -> str:
        """The name, or host and port."""
        return self.name or f"{self.upstream.host}:{self.upstream.port}"[-ID.most :]


class Canary(_Frozen):
    """A target on trial. It gets each step's share for a number of requests, and none after a failure."""

    target: str
    steps: tuple[float, ...] = Field(default=(0.01, 0.05, 0.25, 0.5, 1.0), min_length=1)
    """Shares of the requests per step, increasing from 0 to 1."""
    requests_per_step: int = Field(default=100, ge=1)
    max_error_ratio: float = Field(default=0.05, ge=0, le=1)
    """Highest ratio of failed to all of its requests in a step."""
    max_latency_ratio: float = Field(default=1.5, ge=1)
    """Highest ratio of its mean latency to that of the other targets."""


class CachePolicy(_Frozen):
    """Policy for cached answers."""

    ttl_seconds: float = Field(default=300, gt=0, le=86_400)
    any_temperature: bool = False
    """Whether to cache answers to requests with a temperature above 0, too."""
    similarity: float = Field(default=0, ge=0, le=1)
    """Least cosine at which two questions count as the same; 0: only equal requests do."""


class ModelRoute(_Frozen):
    """Route of one model."""

    model: str = Field(min_length=1, max_length=MODEL.most)
    """The name that clients use."""
    upstream: HttpUrl | None = None
    """Short notation for one target."""
    upstream_model: str = ""
    """With `upstream`: name of the model there; empty: the same name."""
    targets: tuple[Target, ...] = ()
    strategy: Strategy = Strategy.WEIGHTED
    sticky: bool = False
    """With weighted: a caller stays with its target."""
    canary: Canary | None = None
    fallbacks: tuple[str, ...] = ()
    """Models that answer in this order if no target of this one does."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Maximum calls of upstreams per request."""
    timeout_seconds: float = Field(default=60, gt=0, le=3600)
    """Seconds from the request to the end of the answer, for all attempts together."""
    first_token_seconds: float = Field(default=0, ge=0, le=600)
    """Seconds to the first byte of an answer, after which another target is tried; 0: no limit."""
    hedge_seconds: float = Field(default=0, ge=0, le=60)
    """Seconds without a first byte, after which a second target is called concurrently; 0: never."""
    cache: CachePolicy | None = None
    guardrails: Guardrails = Guardrails.OFF
    owned_by: str = "cogniforge"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.upstream is None) == (not self.targets):
            raise ValueError("set either upstream or targets")
        labels = [target.label for target in self.servers]
        if len(set(labels)) != len(labels):
            raise ValueError(f"two targets have the same name: {', '.join(sorted(labels))}")
        if not any(target.weight for target in self.servers):
            raise ValueError("at least one weight must be above 0")
        if (self.strategy is Strategy.CANARY) != (self.canary is not None):
            raise ValueError("canary is required with strategy canary, and not allowed with others")
        if self.canary and (self.canary.target not in labels or len(labels) < 2):
            raise ValueError(f'canary.target "{self.canary.target}" must be one of at least two targets')
        return self

    @property
    def servers(self) -> tuple[Target, ...]:
        """The targets, in either notation."""
        if self.upstream is None:
            return self.targets
        return (Target(upstream=self.upstream, upstream_model=self.upstream_model),)


class Tenant(_Frozen):
    """A customer, with its keys and limits."""

    id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")
    keys: tuple[str, ...] = ()
    """SHA-256 of each API key in hexadecimal; the keys themselves are not stored."""
    clients: tuple[str, ...] = ()
    """Names of clients that the gateway has authenticated and that belong to the tenant."""
    models: tuple[str, ...] = ()
    """Allowed models; empty allows all."""
    requests_per_minute: int = Field(default=0, ge=0)
    """Requests per minute; 0: no limit."""
    tokens_per_minute: int = Field(default=0, ge=0)
    """Tokens per minute; 0: no limit."""
    budget_usd: float | None = Field(default=None, ge=0)
    """US dollars that may be spent until the budget is set again; null: no limit."""
    operator: bool = False
    """Whether its keys may also change routes (/v1/admin)."""

    @model_validator(mode="after")
    def _hashed(self) -> Self:
        for key in self.keys:
            if len(key) != 64 or set(key) - set("0123456789abcdef"):
                raise ValueError("keys: each must be the SHA-256 of a key, 64 hex digits in lower case")
        return self


class RouteTable(_Frozen):
    """All routes and tenants."""

    revision: int = Field(default=0, ge=0)
    routes: tuple[ModelRoute, ...] = Field(min_length=1)
    tenants: tuple[Tenant, ...] = ()
    """The tenants; null: all callers are one tenant without limits."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        models = [route.model for route in self.routes]
        owners = [key for tenant in self.tenants for key in (*tenant.keys, *tenant.clients)]
        for what, found in (("model", models), ("tenant", [t.id for t in self.tenants]), ("key or client", owners)):
            if twice := sorted({x for x in found if found.count(x) > 1}):
                raise ValueError(f"the same {what} occurs twice: {', '.join(twice)}")
        if unknown := sorted({f for r in self.routes for f in r.fallbacks} - set(models)):
            raise ValueError(f"fallbacks to unknown models: {', '.join(unknown)}")
        return self

    def find(self, model: str) -> ModelRoute | None:
        """The route of a model."""
        return next((route for route in self.routes if route.model == model), None)


class RouteTableError(Exception):
    """The route table is invalid. The message lists all mistakes."""


def parse(content: bytes | str, source: object) -> RouteTable:
    """Read a table from JSON. Raises RouteTableError with all mistakes."""
    try:
        return RouteTable.model_validate_json(content)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'table'}: {e['msg']}" for e in error.errors()]
        raise RouteTableError(f"route table {source}: " + "; ".join(lines)) from None


def load(path: Path) -> RouteTable:
    """Read the table from a JSON file. Raises RouteTableError with all mistakes."""
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise RouteTableError(f"route table {path}: {error.strerror}") from None
