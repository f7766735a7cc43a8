"""Entries about one request, with their proofs."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from audit import verify
from audit.api import _REQUEST_ENTRIES
from audit_events import event
from kit.ledger import merkle, note

from service_images import hostile

REQUESTS = "/v1/audit/requests"
Write = Callable[..., list[int]]


def test_entries_of_a_request_come_with_proofs_that_audit_verify_accepts(audit: httpx.Client, write: Write) -> None:
    write(*(event() for _ in range(300)))
    write(event(subject="request/r1", data={"tenant": "acme", "status": 200, "cost_usd": 1e-07}))
    write(event(subject="request/r1/x"), event(subject="request/r12"))
    write(event(subject="request/r1", data={"tenant": "acme", "status": 504}))
    found = audit.get(f"{REQUESTS}/r1").json()
    assert [entry["event"]["data"]["status"] for entry in found["entries"]] == [504, 200]
    checkpoint = note.verify(found["checkpoint"], audit.get("/v1/audit/key").text)
    for entry in found["entries"]:
        content = entry.pop("content")
        assert json.loads(content)["data"] == entry["event"]["data"]
        assert verify._entry_of(entry, checkpoint).number == entry["number"]
        proof = [bytes.fromhex(part) for part in entry["proof"]]
        assert not merkle.verify_inclusion(entry["entry"].encode() + b" ", entry["number"], 303, proof, checkpoint.root)


def test_a_repeated_id_lists_the_newest_entries(audit: httpx.Client, write: Write) -> None:
    numbers = write(*(event(subject="request/again") for _ in range(_REQUEST_ENTRIES + 3)))
    found = audit.get(f"{REQUESTS}/again").json()
    assert [entry["number"] for entry in found["entries"]] == numbers[:2:-1]
    assert found["more"] is True


@pytest.mark.parametrize("name", hostile.IDS)
def test_a_hostile_id_is_refused_or_unknown(audit: httpx.Client, write: Write, name: str) -> None:
    write(event(subject="request/r1"), event(subject=""))
    answer = audit.get(f"{REQUESTS}/{name}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]
