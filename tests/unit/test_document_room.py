"""Quotas and retention of services follow from the stack file."""

from __future__ import annotations

import json
from typing import Any

from components.config.parse import parse
from tests.stack_files import stack_file


def variables(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    config = parse(found)
    records = config.around.records
    return {
        name: dict(records[name].variables(section, config.around)) for name, section in config.services.there.items()
    }


def given(quotas: dict[str, Any], storage: str) -> dict[str, str]:
    found = stack_file("local")
    found["services"]["retriever"] = {**(found["services"]["retriever"] or {}), "quotas": quotas}
    found["data"]["objectStore"]["storage"] = storage
    return variables(found)["retriever"]


def test_a_tenants_quotas_are_the_stack_files() -> None:
    rooms = given({"files": 7, "storage": "64Mi", "stores": 3, "passages": 9}, "4Gi")
    names = ("FILES", "BYTES", "STORES", "PASSAGES")
    assert [rooms[f"SERVICE_QUOTA_{name}"] for name in names] == ["7", str(64 * 2**20), "3", "9"]


def test_documents_get_half_of_the_object_stores_volume() -> None:
    assert given({}, "4Gi")["SERVICE_ROOM_BYTES"] == str(2 * 2**30)


def test_quotas_and_retention_of_services_are_the_stack_files() -> None:
    found = stack_file("local")
    services = found["services"]
    services["user"] = {"quotas": {"keys": 7}, "quotasOf": [{"tenant": "acme", "keys": 9}]}
    services["prompt"] = {"quotas": {"versions": 3}}
    services["billing"] = {"retention": {"namesDays": 90}}
    services["audit"] = {"retention": {"usageDays": 40}}
    made = variables(found)
    assert json.loads(made["user"]["SERVICE_QUOTAS"])["keys"] == 7
    assert json.loads(made["user"]["SERVICE_QUOTAS_OF"]) == {"acme": {"keys": 9}}, "the rest is as for the others"
    assert json.loads(made["prompt"]["SERVICE_QUOTAS"])["versions of prompts"] == 3
    assert made["billing"] == {
        "SERVICE_KEEP_NAMES_DAYS": "90",
        "SERVICE_KEEP_USAGE_DAYS": "800",
        "SERVICE_KEEP_INVOICES_DAYS": "3660",
    }
    assert made["audit"]["SERVICE_KEEP_USAGE_DAYS"] == "40"
    assert made["guardrails"] == {}
