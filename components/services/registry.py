"""All bundled services, and facts that are derived from several records."""

from __future__ import annotations

from collections.abc import Mapping

from components.services import audit, billing, embeddings, guardrails, portal, prompt, retriever, router, user
from components.services.record import ServiceRecord

FRONT = router.RECORD
"""The Router, which serves all models. All other services are optional."""
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
        portal.RECORD,
    )
}
"""Records of all bundled services by name."""
USAGE = billing.RECORD
"""The service that counts usage, and keeps prices, budgets and invoices."""
LEDGER = audit.RECORD
"""The service that logs all events, and proves that the log has them."""
EMBEDDER = embeddings.RECORD
"""The service that computes vectors of texts."""
VECTOR = embeddings.VECTOR
"""Dimension of the Embeddings service's vectors. The vector database needs a collection of this dimension."""
DOCUMENTS: Mapping[str, str | int] = {"name": "documents", "dimension": VECTOR}
"""The collection that a new environment begins with."""
GATEWAY = "gateway"
"""Name of the gateway, which calls every service that has prefixes."""


def rest_callers(record: ServiceRecord, services: Mapping[str, ServiceRecord] = SERVICES) -> tuple[str, ...]:
    """Names of services, and the gateway, that call a service over REST."""
    asking = sorted({*record.callers, *(one.name for one in services.values() if record.name in one.asks_rest)})
    return (*([GATEWAY] if record.prefixes else []), *asking)


def rpc_callers(record: ServiceRecord, services: Mapping[str, ServiceRecord] = SERVICES) -> tuple[str, ...]:
    """Names of services that call a service over gRPC. A service without such callers serves no gRPC."""
    return tuple(sorted(other.name for other in services.values() if record.name in other.asks))
