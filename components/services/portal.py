"""Portal: pages on which a person sees and uses what their key allows."""

from __future__ import annotations

import json
from typing import Any

from components.services.record import Body, Bundled, Objectives, Prefix, ServiceRecord, Surroundings

_STORES = (
    ("PostgreSQL", "database"),
    ("Cache", "cache"),
    ("Object store", "buckets"),
    ("Vectors", "collections"),
    ("NATS", "speaks"),
)
"""Name of each store on the map, with the field of a record that says whether the service uses it."""


def _variables(section: Bundled, around: Surroundings) -> dict[str, str]:
    parts = [_part(record) for record in around.records.values() if record.name != RECORD.name]
    return {
        "SERVICE_PUBLIC_URL": around.url,
        "SERVICE_LOGINS": str(around.logins).lower(),
        "SERVICE_PARTS": json.dumps(parts),
    }


def _part(record: ServiceRecord) -> dict[str, Any]:
    """What the pages show about a service, as `portal.topology.Part` reads it."""
    writes = (*record.produces, *record.outbox)
    kafka = ["Kafka"] if writes or record.consumes else []
    return {
        "name": record.name,
        "title": record.title,
        "about": record.about,
        "prefixes": [prefix.path for prefix in record.prefixes],
        "document": bool(record.prefixes and record.document),
        "asks": list(dict.fromkeys((*record.asks, *record.asks_rest))),
        "reads": list(record.consumes),
        "writes": list(writes),
        "stores": [*(store for store, field in _STORES if getattr(record, field)), *kafka],
        "letters": record.sets_aside,
    }


RECORD = ServiceRecord(
    "portal",
    title="Portal",
    about="Pages on which a person sees and uses what their key allows",
    position=8,
    prefixes=(Prefix("/portal", Body.TEXT),),
    needs={"services.user": "acts with its reader's own API key"},
    asked=True,
    calls_gateway=True,
    shows_evidence=True,
    shows_telemetry=True,
    arrival="/portal/arrive",
    # It encrypts the cookies of sessions. A new one signs everybody out.
    own_secrets=("session",),
    # Pages that ask models take as long as the model does.
    objectives=Objectives(latency_seconds=None),
    variables=_variables,
)
