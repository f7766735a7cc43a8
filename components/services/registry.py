"""All bundled services, and what follows from several records at once."""

from __future__ import annotations

from collections.abc import Mapping

from components.services import audit, billing, embeddings, guardrails, prompt, retriever, router, user
from components.services.record import ServiceRecord

FRONT = router.RECORD
"""The service that answers for the models; all others are optional."""
SERVICES: Mapping[str, ServiceRecord] = {
    record.name: record
    for record in (
        FRONT,
        embeddings.RECORD,
        guardrails.RECORD,
        prompt.RECORD,
        retriever.RECORD,
        user.RECORD,
        billing.RECORD,
        audit.RECORD,
    )
}
"""By name."""
VECTOR = embeddings.VECTOR
"""Numbers in a vector of the service that makes vectors: the vector database needs a collection for them."""
GATEWAY = "gateway"
"""The part that calls every service with prefixes."""


def rest_callers(record: ServiceRecord, services: Mapping[str, ServiceRecord] = SERVICES) -> tuple[str, ...]:
    """Parts that call a service over REST."""
    asking = sorted(other.name for other in services.values() if record.name in other.asks_rest)
    return (*([GATEWAY] if record.prefixes else []), *asking)


def rpc_callers(record: ServiceRecord, services: Mapping[str, ServiceRecord] = SERVICES) -> tuple[str, ...]:
    """Services that call a service over gRPC; it serves gRPC where there is one."""
    return tuple(sorted(other.name for other in services.values() if record.name in other.asks))


def topics(services: Mapping[str, ServiceRecord] = SERVICES) -> tuple[str, ...]:
    """Every topic that some service writes."""
    return tuple(sorted({topic for one in services.values() for topic in (*one.produces, *one.outbox)}))


def with_database(services: Mapping[str, ServiceRecord] = SERVICES) -> tuple[ServiceRecord, ...]:
    """The services that own a database."""
    return tuple(one for one in services.values() if one.database)


def key_buckets(services: Mapping[str, ServiceRecord] = SERVICES) -> tuple[str, ...]:
    """Every key-value bucket of NATS."""
    return tuple(sorted({bucket for one in services.values() for bucket in (*one.keeps, *one.follows)}))


def owner_of_collections() -> str:
    """The service that owns the vector database's collections."""
    return next(one.name for one in SERVICES.values() if one.collections)
