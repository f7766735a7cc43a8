"""What each service owns and exchanges. Databases, topics, ACLs, subjects, cache users and buckets follow from it."""

from __future__ import annotations

from dataclasses import dataclass

VECTOR = 384
"""Numbers in a vector of the Embeddings service. Source: sentence-transformers/all-MiniLM-L6-v2."""


@dataclass(frozen=True)
class DataIntent:
    """One service's share of the data layer."""

    service: str
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
    """It has a user in the cache that sees keys below `<service>:`."""
    buckets: tuple[str, ...] = ()
    """Buckets of the object store."""


SERVICES: dict[str, DataIntent] = {
    intent.service: intent
    for intent in (
        DataIntent(
            "router",
            produces=("usage.recorded.v1", "route.changed.v1"),
            sends=("router.used", "in_force.router.router"),
            hears=("router.used",),
            keeps=("router",),
            follows=("tenants", "budgets", "labels"),
        ),
        DataIntent("embeddings", cache=True),
        DataIntent("guardrails", produces=("guard.decided.v1",), follows=("policies", "tenants")),
        DataIntent(
            "prompt",
            database=True,
            consumes=("tenant.deleted.v1",),
            outbox=("prompt.changed.v1", "quota.reached.v1", "tenant.erased.v1", "dead-letter.handled.v1"),
            keeps=("labels",),
            follows=("tenants",),
            cache=True,
        ),
        DataIntent(
            "retriever",
            database=True,
            extensions=("vector",),
            consumes=("tenant.deleted.v1",),
            outbox=("document.changed.v1", "quota.reached.v1", "tenant.erased.v1", "dead-letter.handled.v1"),
            follows=("tenants",),
            buckets=("documents",),
        ),
        DataIntent(
            "user",
            database=True,
            consumes=("tenant.erased.v1",),
            outbox=("user.changed.v1", "quota.reached.v1", "tenant.deleted.v1", "dead-letter.handled.v1"),
            keeps=("tenants", "policies", "deleted"),
        ),
        DataIntent(
            "billing",
            database=True,
            consumes=("usage.recorded.v1", "tenant.deleted.v1"),
            outbox=("invoice.issued.v1", "billing.changed.v1", "tenant.erased.v1", "dead-letter.handled.v1"),
            keeps=("budgets",),
            follows=("tenants",),
        ),
        DataIntent(
            "audit",
            database=True,
            consumes=(
                "usage.recorded.v1",
                "route.changed.v1",
                "guard.decided.v1",
                "prompt.changed.v1",
                "document.changed.v1",
                "quota.reached.v1",
                "user.changed.v1",
                "invoice.issued.v1",
                "billing.changed.v1",
                "dead-letter.handled.v1",
                "tenant.deleted.v1",
            ),
            outbox=("tenant.erased.v1", "dead-letter.handled.v1"),
            follows=("tenants",),
        ),
    )
}


def reports(intent: DataIntent) -> tuple[str, ...]:
    """Subjects on which a service reports what it has applied of the buckets that it follows."""
    return tuple(f"in_force.{bucket}.{intent.service}" for bucket in intent.follows)


def topics() -> tuple[str, ...]:
    """Every topic that some service writes."""
    return tuple(sorted({topic for intent in SERVICES.values() for topic in (*intent.produces, *intent.outbox)}))


def erasers() -> tuple[str, ...]:
    """The services that erase what they hold of a tenant that was deleted."""
    return tuple(sorted(intent.service for intent in SERVICES.values() if "tenant.deleted.v1" in intent.consumes))


def with_database() -> tuple[DataIntent, ...]:
    """The services that own a database."""
    return tuple(intent for intent in SERVICES.values() if intent.database)


def key_buckets() -> tuple[str, ...]:
    """Every key-value bucket."""
    return tuple(sorted({b for intent in SERVICES.values() for b in (*intent.keeps, *intent.follows)}))
