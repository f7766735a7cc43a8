"""Events that services exchange over Kafka: CloudEvents 1.0 (structured, JSON), with a schema per type.

A topic contains one type of event and has its name, version included. The schema is next to this file and in the
schema registry. An incompatible change needs a new topic.
"""

from __future__ import annotations

import functools
import json
import uuid
from datetime import UTC, datetime
from importlib import resources
from typing import Any

TYPE_PREFIX = "dev.cogniforge."
_SUFFIX = ".json"


@functools.cache
def topics() -> tuple[str, ...]:
    """All topics, sorted."""
    names = [entry.name for entry in resources.files(__name__).iterdir()]
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


@functools.cache
def _data(topic: str) -> dict[str, Any]:
    return json.loads(resources.files(__name__).joinpath(topic + _SUFFIX).read_text())


def schema(topic: str) -> dict[str, Any]:
    """JSON Schema of a whole event, including the envelope. Raises FileNotFoundError for an unknown topic."""
    text = {"type": "string", "minLength": 1}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": TYPE_PREFIX + topic,
        "type": "object",
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "source": text,
            "type": {"const": TYPE_PREFIX + topic},
            "subject": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "traceparent": {"type": "string"},
            "data": _data(topic),
        },
    }


def request(name: str) -> str:
    """Subject of events about a request for a model, by its ID."""
    return f"request/{name}"


def event(topic: str, source: str, subject: str, data: dict[str, Any], traceparent: str = "") -> dict[str, Any]:
    """A new event of a topic. `source` is the service; `subject` is the object that the event is about."""
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": f"/services/{source}",
        "type": TYPE_PREFIX + topic,
        "subject": subject,
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        **({"traceparent": traceparent} if traceparent else {}),
        "data": data,
    }
