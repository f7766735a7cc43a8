"""Data that is accepted at the entrance fits every later limit on its path."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
from kit import events, limits
from kit.limits import Limit

WIDTH_OF_TYPE = {"integer": 20, "number": 25, "boolean": 5}
PUNCTUATION = len('"":,')


@pytest.mark.parametrize("path", limits.PATHS)
def test_each_limit_is_smaller_than_every_later_one(path: str) -> None:
    for earlier, later in combinations(limits.PATHS[path], 2):
        assert earlier.bytes < later.bytes, f"{earlier} > {later}"


def _largest(topic: str) -> int:
    """Size of the largest event that the schema and the table of limits allow, in bytes."""
    texts, size = limits.EVENT_TEXTS[topic], len("{}") * 2
    for name, limit in limits.ENVELOPE.items():
        size += len(name) + PUNCTUATION + 2 + limit.bytes
    for name, kind in events.schema(topic)["properties"]["data"]["properties"].items():
        size += len(name) + PUNCTUATION + 2
        size += texts[name].bytes if name in texts else _width(kind)
    return size


def _width(kind: dict[str, Any]) -> int:
    return max(map(len, kind["enum"])) if "enum" in kind else WIDTH_OF_TYPE[kind["type"]]


@pytest.mark.parametrize("topic", events.topics())
def test_the_largest_event_of_each_topic_fits(topic: str) -> None:
    assert _largest(topic) < limits.EVENT.bytes


@pytest.mark.parametrize("topic", events.topics())
def test_each_field_without_a_size_has_a_limit(topic: str) -> None:
    fields = events.schema(topic)["properties"]["data"]["properties"]
    free = {n for n, k in fields.items() if k.get("type") in ("string", "object", "array") and "enum" not in k}
    assert free == set(limits.EVENT_TEXTS[topic])


def test_an_audit_entry_holds_the_largest_envelope() -> None:
    # Besides the envelope: the tenant, hashes in hexadecimal, numbers, and the names of the fields.
    rest = limits.TENANT.bytes + 4 * 64 + 4 * 20 + 500
    assert sum(limit.bytes for limit in limits.ENVELOPE.values()) + rest < limits.AUDIT_ENTRY.bytes


def test_a_limit_describes_itself() -> None:
    assert str(limits.POLICY) == "policy of a tenant: at most 65,536 bytes"


@pytest.mark.parametrize("limit", [v for v in vars(limits).values() if isinstance(v, Limit)], ids=lambda v: v.what)
def test_a_character_counts_as_json_may_write_it(limit: Limit) -> None:
    if limit.unit is limits.Unit.CHARACTERS:
        assert limit.bytes >= len(json.dumps("\x01" * limit.most)) - 2
        assert limit.bytes >= len(("\U0001f600" * limit.most).encode())
