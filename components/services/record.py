"""The record of a service: all facts that other parts of the platform derive from, each stated once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from components.config.base import Change, Resources, Section, setting
from components.config.data import Data
from components.config.gateway import Gateway
from components.config.problems import Conflict
from components.observability.alert import Alert, Panel

PORT = 8080
"""Where every service serves REST and metrics."""
RPC_PORT = 9090
"""Where services that other services ask serve gRPC."""
TENANT_DELETED = "tenant.deleted.v1"
TENANT_ERASED = "tenant.erased.v1"
QUOTA_REACHED = "quota.reached.v1"
DEAD_LETTER_HANDLED = "dead-letter.handled.v1"


class Bundled(Section):
    """A bundled service."""

    replicas: int = setting(Change.SAFE, "Replicas", default=1, ge=1, le=100)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="50m", memory="256Mi"))


class Body(StrEnum):
    """How large the bodies of requests below a prefix may be."""

    SMALL = "small"
    """What describes something."""
    TEXT = "text"
    """Texts to look at or to keep."""
    LARGE = "large"
    """As much as the configuration's maxBodySize: questions to models, with images, and uploads."""


@dataclass(frozen=True)
class Prefix:
    """Paths at the gateway that belong to a service."""

    path: str
    body: Body = Body.SMALL
    encoded_names: bool = False
    """Names below the prefix may hold slashes, which clients send as %2F."""


@dataclass(frozen=True)
class Objectives:
    """What a service promises."""

    availability: float = 0.999
    """Share of requests in 30 days that do not fail by the service's fault."""
    latency_seconds: float = 1.0
    latency_share: float = 0.99
    """Share of requests that are answered within `latency_seconds`."""
    first_token_seconds: float | None = None
    """Within this time the first token arrives, for the same share; None: the service streams no tokens."""


@dataclass(frozen=True)
class DataIntent:
    """One service's share of the data layer. Databases, rights, subjects, cache users and buckets follow from it."""

    name: str
    database: bool = False
    """It owns a PostgreSQL database of its own name."""
    extensions: tuple[str, ...] = ()
    """PostgreSQL extensions in it."""
    outbox: tuple[str, ...] = ()
    """Topics that its outbox fills, through change data capture."""
    produces: tuple[str, ...] = ()
    """Topics that it writes itself."""
    consumes: tuple[str, ...] = ()
    """Topics that it reads, in a consumer group of its own name."""
    sends: tuple[str, ...] = ()
    """NATS subjects that it publishes to."""
    hears: tuple[str, ...] = ()
    """NATS subjects that it subscribes to."""
    keeps: tuple[str, ...] = ()
    """Key-value buckets of NATS that it writes; each has one writer."""
    follows: tuple[str, ...] = ()
    """Key-value buckets of NATS that it reads and receives changes of; it reports to the owner what it has applied."""
    cache: bool = False
    """It has a user in the cache that sees keys below `<name>:`."""
    buckets: tuple[str, ...] = ()
    """Buckets of the object store."""
    collections: bool = False
    """It owns the vector database's collections."""

    @property
    def reports(self) -> tuple[str, ...]:
        """Subjects on which it reports what it has applied of the buckets that it follows."""
        return tuple(f"in_force.{bucket}.{self.name}" for bucket in self.follows)


@dataclass(frozen=True)
class Surroundings:
    """What a service's hooks may look at: the configuration around the service's own section."""

    data: Data
    gateway: Gateway
    records: Mapping[str, ServiceRecord]
    """The services that the environment has, by name."""

    @property
    def url(self) -> str:
        """The platform's first public address."""
        host, port = self.gateway.hosts[0], self.gateway.port
        return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def _no_variables(section: Any, around: Surroundings) -> Mapping[str, str]:
    return {}


def _no_secrets(section: Any, around: Surroundings) -> Mapping[str, tuple[str, str]]:
    return {}


def _no_conflicts(section: Any, around: Surroundings) -> Iterator[Conflict]:
    yield from ()


@dataclass(frozen=True)
class ServiceRecord(DataIntent):
    """A service. A field that is not named holds for a service that only answers the gateway."""

    title: str = ""
    about: str = ""
    """One line, for the reference of the configuration."""
    section: type[Bundled] = Bundled
    """Its section of the configuration, with the default resources."""
    position: int = 100
    """Its place among sections, and among routes at the gateway: Kong's routes have their place in their names, and
    another place would replace them."""
    always: bool = False
    """Every environment has it; else its section switches it on."""
    prefixes: tuple[Prefix, ...] = ()
    """Its REST paths at the gateway, which may then call it."""
    asks: tuple[str, ...] = ()
    """Services that it calls over gRPC. Each callee lets it in by its token: callers are derived from this field."""
    asks_rest: tuple[str, ...] = ()
    """Services that it calls over REST."""
    needs: Mapping[str, str] | None = None
    """Parts of the configuration that it cannot be without, such as "data.nats", each with what the service does
    there. Its database and its buckets need no mention."""
    waits_for: tuple[str, ...] = ()
    """Parts of the data layer that have to work before it starts, besides those whose addresses it receives."""
    own_secrets: tuple[str, ...] = ()
    """Secrets that are made once and outlive rotations of passwords, in SERVICE_<NAME>_SECRET."""
    keeps_keys: bool = False
    """It decides which API keys there are: it receives the operator's key, and others ask callers for keys."""
    asks_for_keys: bool = False
    """It knows callers by their keys, where a service of the environment keeps keys."""
    scopes: tuple[str, ...] = ()
    """What a key must be good for to use it."""
    objectives: Objectives = Objectives()
    egress: tuple[int, ...] = ()
    """TCP ports at which it reaches addresses outside the cluster."""
    wheels: bool = False
    """Its image holds wheels of a requirements.lock of its own."""
    scratch_mib: int = 64
    """Of /tmp."""
    alerts: tuple[Alert, ...] = ()
    panels: tuple[Panel, ...] = ()
    variables: Callable[[Any, Surroundings], Mapping[str, str]] = _no_variables
    """Environment variables that follow from its section, and from what is around it."""
    secrets: Callable[[Any, Surroundings], Mapping[str, tuple[str, str]]] = _no_secrets
    """Environment variables from (Secret, entry) that the operator makes."""
    conflicts: Callable[[Any, Surroundings], Iterator[Conflict]] = _no_conflicts
    """Mistakes between its section and the rest of the configuration."""

    @property
    def image(self) -> str:
        """Its image's name in the lock, and its folder under service_images/."""
        return self.name

    @property
    def component(self) -> str:
        """The class of its component: one that keeps secrets has a component of its own around the service."""
        return self.title if self.own_secrets else "AiService"

    @property
    def erases(self) -> bool:
        """Whether it holds something of tenants, and erases what it holds of a deleted one."""
        return TENANT_DELETED in self.consumes

    @property
    def sets_aside(self) -> bool:
        """Whether it keeps dead letters that an operator can handle."""
        return DEAD_LETTER_HANDLED in self.outbox
