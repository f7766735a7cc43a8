"""Size limits of all data that the platform accepts, forwards or stores, in one table.

`PATHS` lists the limits on each path through the platform, in the order in which data meets them. Each limit is smaller
than all later ones, so that data accepted at the entrance is never refused later. A service that accepts a new field or
uses a new store adds a limit here, with its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

_KIB, _MIB = 2**10, 2**20
_WORST_BYTES = 6
"""Most bytes of a character in JSON: a control character is written as \\u0001. All others take at most four bytes."""


class Unit(StrEnum):
    """Unit of a limit."""

    BYTES = "bytes"
    CHARACTERS = "characters"
    COUNT = "entries"
    DEPTH = "levels"
    DIGITS = "digits"


@dataclass(frozen=True)
class Limit:
    """A size limit."""

    what: str
    most: int
    unit: Unit = Unit.BYTES

    @property
    def bytes(self) -> int:
        """Largest size in JSON, in bytes. Raises ValueError for units without a size, such as counts."""
        if self.unit is Unit.BYTES:
            return self.most
        if self.unit is Unit.CHARACTERS:
            return self.most * _WORST_BYTES
        raise ValueError(f"{self.what}: {self.unit} have no size")

    def __str__(self) -> str:
        return f"{self.what}: at most {self.most:,} {self.unit}"


def _text(what: str, most: int) -> Limit:
    return Limit(what, most, Unit.CHARACTERS)


# JSON in general. The parsers of the standard library, msgspec and Jackson (1,000 since 2.15) accept a larger depth.
JSON_DEPTH = Limit("nesting of JSON", 64, Unit.DEPTH)
JSON_INTEGER = Limit("an integer in JSON", 18, Unit.DIGITS)
"""Fits into signed 64 bits, as in PostgreSQL's bigint and all other readers."""
JSON_NUMBER = Limit("a number in JSON", 400, Unit.DIGITS)
"""Length of the notation, with fraction and exponent. A double has at most 17 significant digits."""

# Bodies, before they are read. The gateway's limits are derived from these (components/mesh/entrance.py), except for
# requests to models and uploads, whose limit is `gateway.maxBodySize`.
GATEWAY_SMALL_BODY = Limit("body that describes something, at the gateway", _MIB)
GATEWAY_TEXT_BODY = Limit("body that brings texts to look at or to keep, at the gateway", 4 * _MIB)
BODY = Limit("body of a REST request", 8 * _MIB)
INFERENCE_BODY = Limit("body of a request for a model", 16 * _MIB)
"""It may contain images and files."""
ROUTER_BODIES = Limit("bodies of requests for models that a Router holds at once", 48 * _MIB)
"""Together with a copy in connection buffers and 90 MiB for an idle Router, it stays below the limit of 256 MiB."""

# Fields.
ID = _text("name or id", 200)
TENANT = _text("tenant", 200)
SUBJECT = _text("subject of an event", 500)
TRACE = _text("traceparent", 55)
MODEL = _text("model", 200)
USER = _text("user", 256)
"""User that a request is made for, as named by the caller. Source: OpenAI's safety_identifier has 64, metadata 512."""
REQUEST_ID = _text("request id", 128)
REASON = _text("reason", 1000)
METADATA_ENTRIES = Limit("entries of metadata", 16, Unit.COUNT)
METADATA_KEY = _text("key of metadata", 64)
METADATA_VALUE = _text("value of metadata", 512)
"""Source: OpenAI's API reference, "metadata"."""
POLICY = Limit("policy of a tenant", 64 * _KIB)
ROUTE = Limit("route", 64 * _KIB)
TENANT_MODELS = _text("models that a tenant may use, together", 20_000)
TEMPLATE = _text("template of a prompt", 128 * _KIB)
TEMPLATES = _text("templates of a version of a prompt, with all that it includes", 512 * _KIB)
PROMPT_JSON = Limit("configuration of a version, and schemas of its variables, each", 64 * _KIB)
RENDERED = _text("rendered prompt", 1_000_000)
GUARD_PIECE = _text("piece of a stream, to Guardrails", 64 * _KIB)
GUARD_TEXTS = Limit("texts of a check, together, in UTF-8", _MIB)
"""Texts of a request or an answer. Guardrails checks 1 MiB of prose in 40 ms."""
GUARD_HELD = Limit("arguments of tools that a Router holds for one check", 768 * _KIB)
GUARD_SHAPED = _text("answer in a stream that has to fit a schema", _MIB)
"""Longer answers are blocked."""
AFTER = Limit("state after a change, in an event", 128 * _KIB)

# Containers of fields.
RPC_MESSAGE = Limit("message of gRPC", 16 * _MIB)
NATS_KEY = Limit("key of a NATS bucket", 4 * _KIB)
"""Source: nats-server's max_control_line, 4096 bytes."""
NATS_VALUE = Limit("value of a NATS bucket", 768 * _KIB)
NATS_MESSAGE = Limit("message of NATS", _MIB)
"""The server's max_payload, headers included."""
EVENT = Limit("event, whole", 512 * _KIB)
OUTBOX_PAYLOAD = Limit("payload of the outbox", 513 * _KIB)
KAFKA_REQUEST = Limit("event as a Kafka producer takes it", 1_000_000)
"""Source: librdkafka's message.max.bytes; Java's max.request.size is a little larger."""
KAFKA_MESSAGE = Limit("event as a Kafka topic takes it", 1_048_588)
"""Source: Kafka's message.max.bytes."""
AUDIT_CONTENT = Limit("sealed content of an audit entry", 2 * _MIB)
AUDIT_ENTRY = Limit("audit entry", 65_535)
"""An entry's length is written in two bytes. Source: C2SP tlog-tiles, "Log Entries"."""
DEAD_LETTER = Limit("payload of a dead letter", 2 * _MIB)
CONNECT_COLUMN = Limit("column of a table that Debezium reads", 16 * _MIB)

PATHS: Mapping[str, tuple[Limit, ...]] = MappingProxyType(
    {
        "request for a model": (INFERENCE_BODY, ROUTER_BODIES),
        "texts to be checked": (GUARD_TEXTS, GATEWAY_TEXT_BODY, BODY),
        "texts to be checked, from the Router": (GUARD_HELD, GUARD_TEXTS, RPC_MESSAGE),
        "answer that has to fit a schema": (GUARD_PIECE, GUARD_SHAPED, RPC_MESSAGE),
        "policy of a tenant, from the entrance": (POLICY, GATEWAY_SMALL_BODY, BODY),
        "policy, to Guardrails": (POLICY, NATS_VALUE, NATS_MESSAGE),
        "limits of a tenant, to the audit log": (TENANT_MODELS, AFTER, EVENT),
        "new version of a prompt": (PROMPT_JSON, TEMPLATE, TEMPLATES, GATEWAY_TEXT_BODY, BODY),
        "rendered prompt, to the Router": (RENDERED, RPC_MESSAGE),
        "route, to the Router": (ROUTE, NATS_VALUE, NATS_MESSAGE),
        "name, in a key of NATS": (ID, NATS_KEY),
        "policy, to the audit log": (POLICY, AFTER, EVENT, OUTBOX_PAYLOAD, KAFKA_REQUEST, KAFKA_MESSAGE, AUDIT_CONTENT),
        "route, to the audit log": (ROUTE, AFTER, EVENT, OUTBOX_PAYLOAD, KAFKA_REQUEST, KAFKA_MESSAGE, AUDIT_CONTENT),
        "event that cannot be processed": (EVENT, OUTBOX_PAYLOAD, KAFKA_REQUEST, KAFKA_MESSAGE, DEAD_LETTER),
        "outbox, to Debezium": (EVENT, OUTBOX_PAYLOAD, CONNECT_COLUMN),
    }
)

ENVELOPE: Mapping[str, Limit] = MappingProxyType(
    {
        "specversion": _text("specversion", 3),
        "id": ID,
        "source": ID,
        "type": ID,
        "subject": SUBJECT,
        "time": _text("time", 40),
        "datacontenttype": _text("datacontenttype", 40),
        "traceparent": TRACE,
    }
)
"""Limits of an event's envelope."""
EVENT_TEXTS: Mapping[str, Mapping[str, Limit]] = MappingProxyType(
    {
        "billing.changed.v1": {"tenant": TENANT, "id": SUBJECT, "actor": ID, "after": AFTER},
        "dead-letter.handled.v1": {
            "tenant": TENANT,
            "service": ID,
            "topic": ID,
            "key": SUBJECT,
            "actor": ID,
            "reason": REASON,
        },
        "document.changed.v1": {"tenant": TENANT, "store": ID, "document": ID, "actor": ID},
        "guard.decided.v1": {"tenant": TENANT, "kinds": Limit("counts by kind", 16 * _KIB)},
        "invoice.issued.v1": {"tenant": TENANT, "invoice": ID, "period": ID, "currency": ID},
        "policy.decided.v1": {
            "tenant": TENANT,
            "key": ID,
            "rule": ID,
            "overridden": ID,
            "reason": REASON,
            "method": ID,
            "target": _text("path of a request", 500),
            "model": MODEL,
            "revision": ID,
        },
        "prompt.changed.v1": {"tenant": TENANT, "name": ID, "label": ID, "actor": ID},
        "quota.reached.v1": {"tenant": TENANT, "service": ID, "resource": ID},
        "route.changed.v1": {"tenant": TENANT, "actor": ID, "reason": REASON, "after": AFTER},
        "tenant.deleted.v1": {"tenant": TENANT, "actor": ID},
        "tenant.erased.v1": {"tenant": TENANT, "service": ID},
        "usage.recorded.v1": {
            "tenant": TENANT,
            "user": USER,
            "key": ID,
            "client": ID,
            "model": MODEL,
            "target": ID,
            "request": REQUEST_ID,
            "scopes": Limit("scopes of a key", _KIB),
            "route": MODEL,
            "choice": Limit("targets that one is chosen from", 32 * _KIB),
            "attempts": Limit("attempts of a request", 32 * _KIB),
            "guard": Limit("verdicts of Guardrails", _KIB),
            "prompt": Limit("name and version of a prompt", 2 * _KIB),
        },
        "user.changed.v1": {"tenant": TENANT, "id": SUBJECT, "actor": ID, "after": AFTER},
    }
)
"""Limits of fields in event data whose type does not limit their size."""
