"""The record of a service: all facts about the service, each stated once. Resources are derived from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from components.config.base import Change, Resources, Section, setting
from components.config.data import Data
from components.config.gateway import Gateway
from components.config.pod import Pod, pod_setting
from components.config.problems import Conflict
from components.config.security import Security
from components.observability.alert import Alert
from components.observability.objective import Indicator
from components.observability.panel import Panel
from components.security.store_names import CACHE, NATS, POSTGRES

PORT = 8080
"""TCP port for REST and metrics, in every service."""
RPC_PORT = 9090
"""TCP port for gRPC, in services that other services call."""
TENANT_DELETED = "tenant.deleted.v1"
TENANT_ERASED = "tenant.erased.v1"
QUOTA_REACHED = "quota.reached.v1"
DEAD_LETTER_HANDLED = "dead-letter.handled.v1"
SHARED_TOPICS = (TENANT_ERASED, QUOTA_REACHED, DEAD_LETTER_HANDLED)
"""Topics that several services write, each about its own actions."""
KEYS_BUCKET = "tenants"
"""Key-value bucket of NATS from which services learn API keys and tenants."""


class Bundled(Section):
    """Settings that all bundled services have."""

    replicas: int = setting(Change.SAFE, "Number of replicas", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Resources per replica", default=Resources(cpu="50m", memory="256Mi"))
    pod: Pod = pod_setting()


class KeyUse(StrEnum):
    """Use of a service's own key in the secret store; the value is the key's type there."""

    SIGN = "ed25519"
    """Sign, and verify."""
    ENCRYPT = "aes256-gcm96"
    """Encrypt and decrypt."""


class Body(StrEnum):
    """Size class of request bodies below a prefix."""

    SMALL = "small"
    """Descriptions of objects, such as a tenant or a policy."""
    TEXT = "text"
    """Texts to be checked or stored."""
    LARGE = "large"
    """Requests to models, with images, and uploads: up to the configuration's maxBodySize."""


@dataclass(frozen=True)
class Prefix:
    """Paths at the gateway that belong to a service."""

    path: str
    body: Body = Body.SMALL
    encoded_names: bool = False
    """Whether names below the prefix may contain slashes, which clients encode as %2F."""


@dataclass(frozen=True)
class Objectives:
    """Service level objectives."""

    availability: float = 0.999
    """Share of requests in 30 days that do not fail because of the service."""
    latency_seconds: float | None = 1.0
    """Seconds for an answer, which are the bound of a bucket in the kit's histogram. None: clients decide how long
    an answer takes."""
    latency_share: float = 0.99
    """Share of requests that are answered within `latency_seconds`, and of streams whose first token is in time."""
    first_token_seconds: float | None = None
    """Seconds within which the first token arrives, for the same share. None: the service streams no tokens."""


@dataclass(frozen=True)
class DataIntent:
    """What a service needs from the data layer. Databases, logins, rights, topics and buckets are derived from it."""

    name: str
    database: bool = False
    """Whether the service owns a PostgreSQL database, which has the service's name."""
    extensions: tuple[str, ...] = ()
    """PostgreSQL extensions in that database."""
    outbox: tuple[str, ...] = ()
    """Kafka topics that receive the service's outbox rows, through change data capture."""
    produces: tuple[str, ...] = ()
    """Kafka topics that the service writes directly."""
    consumes: tuple[str, ...] = ()
    """Kafka topics that the service reads. Its consumer group has the service's name."""
    schemas: Mapping[str, str] = field(default_factory=dict[str, str])
    """JSON Schema of the values of a user's own topics, by topic. Bundled services have theirs in the kit."""
    sends: tuple[str, ...] = ()
    """NATS subjects that the service publishes to."""
    hears: tuple[str, ...] = ()
    """NATS subjects that the service subscribes to."""
    keeps: tuple[str, ...] = ()
    """NATS key-value buckets that the service writes. A bucket has one writer."""
    follows: tuple[str, ...] = ()
    """NATS key-value buckets that the service watches. It reports to the writer which revision it has applied."""
    cache: bool = False
    """Whether the service has a cache user, which can access keys with the prefix `<name>:`."""
    buckets: tuple[str, ...] = ()
    """Object store buckets that the service uses."""
    collections: bool = False
    """Whether the service owns the vector database's collections."""
    store_keys: Mapping[str, KeyUse] = field(default_factory=dict[str, KeyUse])
    """The service's keys in the secret store, by name. It uses them there, and cannot read them."""
    store_key_families: tuple[str, ...] = ()
    """Families of keys in the secret store, by name: the service makes, uses, rotates and destroys their keys, such as
    one for each tenant, and cannot read them."""

    @property
    def has_store_keys(self) -> bool:
        """Whether the service has keys of its own in the secret store."""
        return bool(self.store_keys or self.store_key_families)

    @property
    def speaks(self) -> bool:
        """Whether the service uses NATS."""
        return bool(self.sends or self.hears or self.keeps or self.follows)


@dataclass(frozen=True)
class Surroundings:
    """Configuration outside the service's own section, which the service's hooks may read."""

    data: Data
    gateway: Gateway
    records: Mapping[str, ServiceRecord]
    """Records of the enabled services by name."""
    security: Security
    logins: bool = False
    """Whether people log in with an identity provider, besides programs with API keys."""

    @property
    def keeper(self) -> str:
        """Name of the service that manages API keys; empty: none is enabled, and the gateway checks keys."""
        return next((record.name for record in self.records.values() if record.keeps_keys), "")

    @property
    def issued(self) -> Mapping[str, Sequence[str]]:
        """Services whose logins the secret store issues, by data server.

        The pool in front of RDS needs passwords beforehand, and a user's own service may not use the kit.
        """
        if self.security.secret_store is None:
            return {}
        ours, data = [record for record in self.records.values() if not record.custom], self.data
        found = {
            POSTGRES: [one.name for one in ours if one.database and data.postgres and not data.postgres.rds],
            CACHE: [one.name for one in ours if one.cache and data.cache],
            NATS: [one.name for one in ours if one.speaks and data.nats],
        }
        return {system: services for system, services in found.items() if services}

    @property
    def url(self) -> str:
        """URL of the platform for clients, with the first host name."""
        host, port = self.gateway.hosts[0], self.gateway.port
        return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def _no_variables(section: Any, around: Surroundings) -> Mapping[str, str]:
    return {}


def _no_secrets(section: Any, around: Surroundings) -> Mapping[str, tuple[str, str]]:
    return {}


def _holds_secrets(section: Any) -> bool:
    return True


def _no_conflicts(section: Any, around: Surroundings) -> Iterator[Conflict]:
    yield from ()


@dataclass(frozen=True)
class ServiceRecord(DataIntent):
    """All facts about a service. The defaults are those of a service that only answers requests from the gateway."""

    title: str = ""
    about: str = ""
    """What the service does, in one line, for the configuration reference."""
    section: type[Bundled] = Bundled
    """Class of its configuration section, with its default resources."""
    position: int = 100
    """Rank among configuration sections and gateway routes. Kong's route names contain the rank, so a new rank replaces
    these routes."""
    always: bool = False
    """Whether every environment has the service. Otherwise, its configuration section enables it."""
    port: int = PORT
    """Port of the REST API, health checks and metrics."""
    rpc_port: int = RPC_PORT
    ready_path: str = "/readyz"
    live_path: str = "/healthz"
    metrics: bool = True
    """Whether the service exposes Prometheus metrics at /metrics of `port`."""
    document: str = "/openapi.json"
    """Path of the OpenAPI document; empty: the service has none."""
    prefixes: tuple[Prefix, ...] = ()
    """REST paths that the gateway forwards to the service."""
    paths: tuple[str, ...] = ()
    """The service's own paths below a prefix whose other paths may belong to other services."""
    asks: tuple[str, ...] = ()
    """Services that this service calls over gRPC. Each callee's list of accepted callers is derived from this field."""
    asks_rest: tuple[str, ...] = ()
    """Services that this service calls over REST."""
    calls_gateway: bool = False
    """Whether the service calls the platform's API through the gateway, with its callers' own keys. Variable:
    SERVICE_GATEWAY_URL; file: SERVICE_GATEWAY_AUTHORITY, the CA certificate."""
    shows_evidence: bool = False
    """Whether the service shows what the deployment knows about its images and policies. Variable:
    SERVICE_EVIDENCE."""
    shows_telemetry: bool = False
    """Whether the service shows what the platform's Prometheus, Jaeger and store of log lines know, where they are
    enabled, and may connect to them. Variables: SERVICE_PROMETHEUS_URL, SERVICE_JAEGER_URL, SERVICE_LOG_STORE_URL,
    SERVICE_LOG_STORE_LOGIN; with Prometheus, SERVICE_BOARDS: the environment's dashboards."""
    arrival: str = ""
    """Path that receives browsers of people who have logged in; empty: the service has no pages."""
    receives_urls: bool = True
    """Whether the service receives the URL of each service in `asks_rest`. Variable: SERVICE_<NAME>_URL."""
    callers: tuple[str, ...] = ()
    """Services that may call this service over REST, besides those that name it in `asks_rest`."""
    needs: Mapping[str, str] | None = None
    """Required configuration sections, such as "data.nats", each with the reason, which completes the sentence
    "<service> ...". A database and buckets are required automatically."""
    waits_for: tuple[str, ...] = ()
    """Parts of the data layer that must be ready first, besides those whose addresses the service receives."""
    own_secrets: tuple[str, ...] = ()
    """Secrets that are generated once and not rotated with passwords. File: SERVICE_<NAME>_SECRET."""
    holds_secrets: Callable[[Any], bool] = _holds_secrets
    """Hook: whether an environment with this section of the service has `own_secrets`."""
    keeps_keys: bool = False
    """Whether the service manages API keys. It receives the installation key, and other services require keys."""
    asks_for_keys: bool = False
    """Whether the service requires an API key from callers, if a service that manages keys is enabled."""
    scopes: tuple[str, ...] = ()
    """Scopes that an API key needs to use the service."""
    objectives: Objectives = Objectives()
    indicators: tuple[Indicator, ...] = ()
    """Indicators of the objectives by the service's own metrics; empty: by those that the kit exports."""
    egress: tuple[int, ...] = ()
    """TCP ports on which the service connects to addresses outside the cluster."""
    asked: bool = False
    """Whether `forge up` builds the service's image only for environments that enable the service."""
    wheels: bool = False
    """Whether the service's image installs packages from its own requirements.lock."""
    migrates: tuple[str, ...] | None = None
    """Command that migrates the service's tables before it starts. None: the kit's command, if it owns a database."""
    custom: bool = False
    """Whether the service is the user's own."""
    built_from: str = ""
    """Folder that the image of a user's own service is built from; empty: the image is not built here."""
    reference: str = ""
    """Image of a user's own service by digest; empty: the image is built here."""
    documents: bool = False
    """Whether the service's image holds the OpenAPI documents of all services."""
    scratch_mib: int = 64
    """Size of /tmp in MiB."""
    alerts: tuple[Alert, ...] = ()
    panels: tuple[Panel, ...] = ()
    """Panels of its dashboard, besides those that follow from the record."""
    variables: Callable[[Any, Surroundings], Mapping[str, str]] = _no_variables
    """Hook: environment variables, computed from the service's section and the surrounding configuration."""
    secrets: Callable[[Any, Surroundings], Mapping[str, tuple[str, str]]] = _no_secrets
    """Hook: secrets from Secrets of the operator, as (Secret, entry) by the name of their file."""
    secrets_in_environment: bool = False
    """Whether the service gets its secrets in environment variables instead of files. Users' own services only."""
    conflicts: Callable[[Any, Surroundings], Iterator[Conflict]] = _no_conflicts
    """Hook: conflicts between the service's section and the surrounding configuration."""

    @property
    def image(self) -> str:
        """Name of the image, of a bundled service's entry in the lock file and of its folder in service_images/."""
        return self.name

    @property
    def migration(self) -> tuple[str, ...]:
        """Command that migrates the service's tables before it starts; empty: no command runs."""
        if self.migrates is not None:
            return self.migrates
        return ("python3", "-m", "kit.migrate", self.name) if self.database else ()

    @property
    def component(self) -> str:
        """Class name of the Pulumi component. A bundled service with its own secrets has its own component class. A
        user's service does not: secrets that are added later must not replace its Deployment."""
        return self.title if self.own_secrets and not self.custom else "AiService"

    @property
    def erases(self) -> bool:
        """Whether the service stores tenant data, and erases that of a deleted tenant."""
        return TENANT_DELETED in self.consumes

    @property
    def sets_aside(self) -> bool:
        """Whether the service keeps dead letters, which operators can retry or drop."""
        return DEAD_LETTER_HANDLED in (*self.outbox, *self.produces)
