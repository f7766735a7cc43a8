"""An export proves that it is complete and unchanged."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from audit import exporting, ledger, sealing, verify
from audit.__main__ import AuditSettings
from audit.sealing import Keys
from audit_events import event
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit.ledger.commitment import commitment

Write = Callable[..., list[int]]
DATA = {"tenant": "acme", "kind": "user", "change": "updated", "actor": "user:ada", "after": {"n": 1.5, "l": []}}


@pytest.fixture
def exported(audit: httpx.Client, write: Write) -> tuple[list[str], str]:
    """(lines of an export of three entries, interleaved with another tenant's entry, key of the log)."""
    write(event(data=DATA), event("other"), event(data=DATA), event(data=DATA))
    return _lines(audit), audit.get("/v1/audit/key").text


def _lines(audit: httpx.Client, **query: Any) -> list[str]:
    answer = audit.get("/v1/audit/tenants/acme/export", params=query)
    assert answer.status_code == 200
    return answer.text.removesuffix("\n").split("\n")


def _changed(lines: list[str], line: int, place: tuple[str, ...], value: Any) -> list[str]:
    found = json.loads(lines[line])
    inner = found
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return [*lines[:line], json.dumps(found), *lines[line + 1 :]]


def test_an_export_is_verified_without_the_service(exported: tuple[list[str], str]) -> None:
    lines, key = exported
    found = verify.export(lines, key)
    assert (found.statement.count, found.statement.size, found.shredded, found.earlier) == (3, 4, 0, 0)
    assert "all 3 entries of acme from 0 to 3" in verify.summary(found)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("event", "data", "actor"), "user:eve"),
        (("event", "data", "after", "n"), 1.25),
        (("event", "data", "more"), "field"),
        (("event", "subject"), "user/2"),
        (("event", "type"), "dev.cogniforge.usage.recorded.v1"),
        (("event", "time"), "2026-11-25T10:00:00Z"),
        (("event", "trace"), "00-" + "1" * 32 + "-" + "1" * 16 + "-01"),
        (("event", "tenant"), "other"),
        (("event", "source"), "/services/other"),
        (("event", "id"), "other"),
        (("event", "place"), 9),
        (("event", "leaf"), 1),
        (("event", "salt"), "00" * 32),
        (("event", "more"), 1),
        (("event", "shredded"), True),
        (("event",), {}),
        (("number",), 1),
        (("more",), 1),
        (("proof",), []),
        (("entry",), "{}"),
    ],
)
def test_a_line_in_which_anything_differs_is_refused(
    exported: tuple[list[str], str], place: tuple[str, ...], value: Any
) -> None:
    lines, key = exported
    with pytest.raises(verify.Broken, match="line 3"):
        verify.export(_changed(lines, 2, place, value), key)


def test_a_content_that_is_passed_off_as_shredded_is_refused(exported: tuple[list[str], str]) -> None:
    lines, key = exported
    found = json.loads(lines[2])
    for name in ("data", "subject", "salt"):
        del found["event"][name]
    found["event"]["shredded"] = True
    with pytest.raises(verify.Broken, match="has signed"):
        verify.export([*lines[:2], json.dumps(found), *lines[3:]], key)


@pytest.mark.parametrize(
    "rearranged",
    [
        (0, 2, 3, 4),
        (0, 1, 3, 4),
        (0, 1, 2, 4),
        (0, 1, 2, 3),
        (0, 2, 1, 3, 4),
        (0, 1, 1, 2, 3, 4),
        (0, 1, 2, 3, 4, 3),
        (0, 1, 2, 3, 3, 4),
        (0, 4),
        (0,),
        (),
        (1, 2, 3, 4),
    ],
    ids=str,
)
def test_lines_that_are_missing_added_or_moved_are_found(
    exported: tuple[list[str], str], rearranged: tuple[int, ...]
) -> None:
    lines, key = exported
    with pytest.raises(verify.Broken):
        verify.export([lines[place] for place in rearranged], key)


def test_the_end_of_another_export_is_refused(audit: httpx.Client, exported: tuple[list[str], str]) -> None:
    lines, key = exported
    part = _lines(audit, last=0)
    assert verify.export(part, key).statement.count == 1
    with pytest.raises(verify.Broken, match="not in the span"):
        verify.export([*lines[:-1], part[-1]], key)
    with pytest.raises(verify.Broken):
        verify.export([*lines[:2], part[-1]], audit.get("/v1/audit/key").text.replace("+", "-", 1))


def test_a_span_is_whole_by_itself(audit: httpx.Client, exported: tuple[list[str], str]) -> None:
    _, key = exported
    found = verify.export(_lines(audit, first=1, last=2), key).statement
    assert (found.first, found.last, found.count) == (1, 2, 1)


def test_an_export_is_read_page_by_page(audit: httpx.Client, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_PAGE", 3)
    write(*(event() for _ in range(10)))
    assert verify.export(_lines(audit), audit.get("/v1/audit/key").text).statement.count == 10


def test_an_entry_holds_a_document_that_is_larger_than_a_leaf(audit: httpx.Client, write: Write) -> None:
    text = "\N{GRINNING FACE}" * 50_000
    write(event(data={"tenant": "acme", "text": text}))
    assert audit.get("/v1/audit/events", params={"tenant": "acme"}).json()["entries"][0]["data"]["text"] == text


def test_a_shredded_content_is_gone_from_the_database_and_its_leaf_says_nothing(
    settings: AuditSettings, audit: httpx.Client, write: Write
) -> None:
    write(event(data=DATA))
    with psycopg.connect(settings.database(pooled=False)) as connection:
        before = connection.execute("SELECT leaf FROM entries").fetchone()
    assert audit.post("/v1/audit/tenants/acme/shred").status_code == 200
    with psycopg.connect(settings.database(pooled=False)) as connection:
        assert connection.execute("SELECT leaf, content, subject FROM entries WHERE number = 0").fetchone() == (
            *(before or ()),
            None,
            None,
        )
    # Guesses of the content cannot be confirmed, because the salt is gone.
    leaf = json.loads(before[0] if before else b"")
    disclosed = ledger.content_of({"subject": "user/1", "data": DATA})
    assert leaf["content"] not in (commitment(b"", disclosed), hashlib.sha256(disclosed).hexdigest())
    found = verify.export(_lines(audit), audit.get("/v1/audit/key").text)
    assert (found.statement.count, found.shredded) == (1, 1)


def test_entries_of_the_version_before_are_marked(settings: AuditSettings, audit: httpx.Client, write: Write) -> None:
    """Entries in the earlier format: sealed content in the leaf, and no number among the tenant's entries."""
    write(event("other"))
    keys = Keys(settings.sealing_secret.get_secret_value())
    disclosed = ledger._encode({"subject": "user/1", "data": DATA})
    clear = {"source": "s", "id": "i", "type": "t", "time": "2026-11-24T10:00:00Z", "tenant": "acme", "trace": ""}

    async def old_entry(events: Any, connection: Any) -> list[ledger.Entry]:
        key = (await keys.get(connection, {"acme"}, make=True))["acme"]
        sealed = base64.b64encode(sealing.seal(key, disclosed, "s i")).decode()
        return [ledger.Entry(ledger._encode({**clear, "sealed": sealed}), None)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger.Ledger, "_entries", lambda self, connection, events: old_entry(events, connection))
        write(event(id="i", source="s"))
    write(event())
    shown = audit.get("/v1/audit/events", params={"tenant": "acme"}).json()["entries"]
    assert [(entry["leaf"], entry["data"]["change"]) for entry in shown] == [(1, "updated"), (2, "updated")]
    lines, key = _lines(audit), audit.get("/v1/audit/key").text
    found = verify.export(lines, key)
    assert (found.statement.count, found.earlier) == (2, 1)
    assert "1 of an earlier format" in verify.summary(found)
    with pytest.raises(verify.Broken, match="has signed"):
        verify.export(_changed(lines, 1, ("event", "data", "actor"), "user:eve"), key)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a\u2028\u0085é", max_size=3), inner),
    max_leaves=10,
)  # fmt: skip


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    st.dictionaries(st.text("abc", max_size=3), JSON, max_size=4), st.text(st.characters(codec="utf-8"), max_size=20)
)
def test_any_json_event_is_returned_unchanged_with_a_proof(
    audit: httpx.Client, data: dict[str, Any], subject: str
) -> None:
    subject = subject.replace("\0", "")
    first = audit.post("/v1/audit/events", json=[event(subject=subject, data={**data, "tenant": "acme"})])
    assert first.status_code == 201, first.text
    (number,) = first.json()["numbers"]
    lines = _lines(audit, first=number)
    assert verify.export(lines, audit.get("/v1/audit/key").text).statement.count == 1
    shown = json.loads(lines[1])["event"]
    assert (shown["data"], shown["subject"]) == ({**data, "tenant": "acme"}, subject)
