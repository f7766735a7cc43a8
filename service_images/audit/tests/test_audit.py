"""Audit's REST operations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from audit import tiles, verify
from audit.__main__ import AuditSettings, Log, create
from audit_events import event
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit import migrate
from kit.database import Database
from kit.ledger import merkle, note
from kit.tenant_deletion import Erasing
from starlette.testclient import TestClient

Write = Callable[..., list[int]]


def test_written_events_are_found_with_their_content(audit: httpx.Client, write: Write) -> None:
    write(event(data={"tenant": "acme", "kind": "user", "change": "created", "after": {"name": "Ada"}}))
    found = audit.get("/v1/audit/events", params={"tenant": "acme"}).json()
    assert [e["data"]["after"] for e in found["entries"]] == [{"name": "Ada"}]
    assert found["next"] is None


def test_the_same_event_again_keeps_its_number(audit: httpx.Client, write: Write) -> None:
    first, other = event(), event()
    assert write(first, other) == [0, 1]
    assert write(other, event(), first) == [1, 2, 0]


def test_an_event_twice_in_one_batch_is_written_once(audit: httpx.Client, write: Write) -> None:
    one = event()
    assert write(one, one) == [0, 0]
    assert note.parse(audit.get("/v1/audit/checkpoint").text.split("\n\n")[0] + "\n").size == 1


def test_pages_follow_one_another(audit: httpx.Client, write: Write) -> None:
    write(*(event() for _ in range(5)))
    seen, after = [], -1
    while after is not None:
        page = audit.get("/v1/audit/events", params={"tenant": "acme", "after": after, "limit": 2}).json()
        seen += [e["number"] for e in page["entries"]]
        after = page["next"]
    assert seen == [0, 1, 2, 3, 4]


def test_a_tenant_is_shown_its_own_events_only(audit: httpx.Client, write: Write) -> None:
    write(event("acme"), event("other"))
    assert len(audit.get("/v1/audit/events", params={"tenant": "other"}).json()["entries"]) == 1


def test_checkpoints_are_signed(audit: httpx.Client, write: Write) -> None:
    write(event())
    key, text = audit.get("/v1/audit/key").text, audit.get("/v1/audit/checkpoint").text
    assert note.verify(text, key).size == 1
    with pytest.raises(note.NoteError, match="the signature is wrong"):
        note.verify(text.replace("\n1\n", "\n2\n"), key)


def test_an_entry_is_proven_by_its_checkpoint(audit: httpx.Client, write: Write) -> None:
    write(*(event() for _ in range(300)))
    write(*(event() for _ in range(300)))
    key = audit.get("/v1/audit/key").text
    for number in (0, 255, 256, 299, 300, 599):
        answer = audit.get(f"/v1/audit/events/{number}/proof").json()
        checkpoint = note.verify(answer["checkpoint"], key)
        entry = tiles.unbundle(audit.get(_bundle(number, 600)).content)[number % 256]
        proof = [bytes.fromhex(h) for h in answer["hashes"]]
        assert merkle.verify_inclusion(entry, number, checkpoint.size, proof, checkpoint.root)


def _bundle(number: int, size: int) -> str:
    tile, width = number // 256, min(256, size - number // 256 * 256)
    return f"/v1/audit/tile/entries/{tiles.path_of(tile)}" + ("" if width == 256 else f".p/{width}")


def test_the_log_is_proven_to_have_grown_only(audit: httpx.Client, write: Write) -> None:
    key = audit.get("/v1/audit/key").text
    notes = {}
    for count in (3, 254, 300):
        write(*(event() for _ in range(count)))
        found = note.verify(audit.get("/v1/audit/checkpoint").text, key)
        notes[found.size] = found.root
    for old in (3, 257):
        answer = audit.get("/v1/audit/consistency", params={"old": old, "new": 557}).json()
        proof = [bytes.fromhex(h) for h in answer["hashes"]]
        assert merkle.verify_consistency(old, 557, proof, notes[old], notes[557])


def test_how_something_was_at_a_time(audit: httpx.Client, write: Write) -> None:
    def at(hour: int, change: str, **after: Any) -> dict[str, Any]:
        data = {"tenant": "acme", "kind": "user", "change": change, "after": after}
        return event(time=f"2026-11-24T{hour:02d}:00:00Z", data=data)

    write(at(1, "created", name="Ada", role="user"), at(3, "updated", role="admin"), at(5, "deleted"))
    expected = {0: None, 2: {"name": "Ada", "role": "user"}, 4: {"name": "Ada", "role": "admin"}, 6: None}
    for hour, wanted in expected.items():
        query = {"tenant": "acme", "subject": "user/1", "at": f"2026-11-24T{hour:02d}:00:00Z"}
        assert audit.get("/v1/audit/state", params=query).json()["state"] == wanted


def test_shredding_loses_the_content_and_keeps_the_log_valid(audit: httpx.Client, write: Write, tmp_path: Path) -> None:
    write(event("gone", data={"tenant": "gone", "secret": "unforgettable"}), event("stays"))
    said = audit.post("/v1/audit/tenants/gone/shred").json()
    assert said == {"shredded": True, "backups_until": None, "destroyed": True}
    shown = audit.get("/v1/audit/events", params={"tenant": "gone"}).json()["entries"][0]
    assert shown["shredded"] is True
    assert "unforgettable" not in json.dumps(shown)
    assert "data" in audit.get("/v1/audit/events", params={"tenant": "stays"}).json()["entries"][0]
    assert verify.folder(_copy(audit, tmp_path, 3), audit.get("/v1/audit/key").text) == 3
    assert audit.post("/v1/audit/tenants/gone/shred").status_code == 404
    write(event("gone", data={"tenant": "gone", "secret": "later"}))
    assert "later" not in audit.get("/v1/audit/events", params={"tenant": "gone"}).text


def test_a_key_is_destroyed_in_all_replicas_at_once(settings: AuditSettings, audit: httpx.Client, write: Write) -> None:
    write(event("gone", data={"tenant": "gone", "secret": "unforgettable"}))
    with TestClient(create(settings.model_copy(update={"backup_days": 7}))) as other:
        assert "unforgettable" in other.get("/v1/audit/events", params={"tenant": "gone"}).text
        assert "unforgettable" in audit.get("/v1/audit/events", params={"tenant": "gone"}).text
        assert other.post("/v1/audit/tenants/gone/shred").json()["backups_until"] is not None
        for replica in (audit, other):
            assert "unforgettable" not in replica.get("/v1/audit/events", params={"tenant": "gone"}).text
        write(event("gone", data={"tenant": "gone", "secret": "later"}))
        assert "later" not in audit.get("/v1/audit/events", params={"tenant": "gone"}).text


@pytest.fixture
def delete(settings: AuditSettings) -> Callable[[str], None]:
    """Run Audit's erasure of a deleted tenant, with a repeated event."""

    async def hear(tenant: str) -> None:
        log, event_ = Log.of(settings, Database(settings)), {"tenant": tenant}
        database = log.database
        await database.open()
        await Erasing(database, "audit", log.erasure.erase).handle([{"data": event_}, {"data": event_}])
        await database.close()

    return lambda tenant: asyncio.run(hear(tenant))


def test_nothing_of_a_deleted_tenant_can_be_read_and_all_proofs_hold(
    audit: httpx.Client, write: Write, delete: Callable[[str], None], tmp_path: Path
) -> None:
    write(event("gone", data={"tenant": "gone", "secret": "unforgettable"}), event("stays"))
    before = audit.get("/v1/audit/events/0/proof", params={"size": 2}).json()
    delete("gone")
    assert audit.get("/v1/audit/events/0/proof", params={"size": 2}).json() == before
    (shown,) = audit.get("/v1/audit/events", params={"tenant": "gone"}).json()["entries"]
    assert shown["shredded"] is True and "unforgettable" not in json.dumps(shown)
    (left,) = audit.get("/v1/audit/events", params={"type": "dev.cogniforge.audit.shredded.v1"}).json()["entries"]
    assert (left["subject"], left["tenant"], left["data"]["actor"]) == ("tenant/gone", "", "service:audit")
    write(event("gone", data={"tenant": "gone", "secret": "later"}))
    assert "later" not in audit.get("/v1/audit/events", params={"tenant": "gone"}).text
    assert verify.folder(_copy(audit, tmp_path, 4), audit.get("/v1/audit/key").text) == 4


def test_late_events_of_a_deleted_tenant_are_logged_without_content(
    audit: httpx.Client, write: Write, delete: Callable[[str], None]
) -> None:
    delete("gone")
    write(event("gone", data={"tenant": "gone", "secret": "late"}))
    (shown,) = audit.get("/v1/audit/events").json()["entries"]
    assert shown["shredded"] is True and "late" not in json.dumps(shown)


def test_a_shredding_is_logged_with_its_actor(audit: httpx.Client, write: Write) -> None:
    write(event("gone"))
    audit.post("/v1/audit/tenants/gone/shred")
    (entry,) = audit.get("/v1/audit/events", params={"type": "dev.cogniforge.audit.shredded.v1"}).json()["entries"]
    assert (entry["subject"], entry["data"]["actor"]) == ("tenant/gone", "key:default")


def test_an_operator_sees_the_entries_of_all_tenants(audit: httpx.Client, write: Write) -> None:
    write(event("acme"), event("other"))
    assert [e["tenant"] for e in audit.get("/v1/audit/events").json()["entries"]] == ["acme", "other"]


def _copy(audit: httpx.Client, folder: Path, size: int) -> Path:
    for number in range(0, size, 256):
        for kind in ("entries", "0"):
            path = _bundle(number, size).replace("entries", kind)
            place = folder / path.removeprefix("/v1/audit/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(audit.get(path).content)
    (folder / "checkpoint").write_text(audit.get("/v1/audit/checkpoint").text)
    return folder


@pytest.mark.parametrize("place", [0, 100, 5000, -1])
def test_one_flipped_bit_is_found(audit: httpx.Client, write: Write, tmp_path: Path, place: int) -> None:
    write(*(event() for _ in range(300)))
    folder, key = _copy(audit, tmp_path, 300), audit.get("/v1/audit/key").text
    assert verify.folder(folder, key) == 300
    for file in (p for p in folder.rglob("*") if p.is_file()):
        content = bytearray(file.read_bytes())
        content[place % len(content)] ^= 1
        before = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(verify.Broken):
            verify.folder(folder, key)
        file.write_bytes(before)


def test_verify_reports_the_mistake_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("nonsense")
    (tmp_path / "key").write_text("nonsense")
    assert verify.main(["verify", str(tmp_path / "log"), str(tmp_path / "key")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_database_itself_refuses_changes(settings: AuditSettings, audit: httpx.Client, write: Write) -> None:
    write(event())
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        for statement in ("UPDATE entries SET type = 'x'", "DELETE FROM entries", "DELETE FROM checkpoints"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement)


def test_tables_can_be_taken_back_and_made_again(settings: AuditSettings) -> None:
    url = settings.database(pooled=False)
    migrate.migrate("audit", url, "downgrade", "base")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('entries')").fetchone() == (None,)
    migrate.migrate("audit", url)
    migrate.migrate("audit", url)  # a repeat has no effect


def test_events_survive_a_kill_of_the_database(
    settings: AuditSettings, audit: httpx.Client, write: Write, postgres_server: Any
) -> None:
    numbers = write(*(event() for _ in range(100)))
    postgres_server.kill()
    refused = audit.post("/v1/audit/events", json=[event()])
    postgres_server.start()
    assert refused.status_code == 503
    with TestClient(create(settings)) as again:
        found = again.get("/v1/audit/events", params={"tenant": "acme", "limit": 1000}).json()["entries"]
        assert [e["number"] for e in found] == numbers
        assert again.post("/v1/audit/events", json=[event()]).json() == {"numbers": [100]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "body"),
        (b"{}", "valid array"),
        (b"[]", "1 to 1000 events"),
        (b"[{}]", "0.specversion"),
        (b"\xff\xfe", "body"),
        (json.dumps([event(time="yesterday")]).encode(), "0.time"),
        (json.dumps([event(id="")]).encode(), "0.id"),
        (json.dumps([event(id="\0")]).encode(), "0.id"),
        (json.dumps([event(extra=1)]).encode(), "0.extra"),
        (json.dumps([event(data={"tenant": "a", "text": "x" * 2**21})]).encode(), "too large"),
        (b'[{"data":{"a":1,"a":2}}]', "twice"),
    ],
)
def test_a_wrong_body_is_refused_with_its_place(audit: httpx.Client, body: bytes, words: str) -> None:
    answer = audit.post("/v1/audit/events", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_the_openapi_document_is_current(audit: httpx.Client) -> None:
    kept = json.loads((Path(__file__).resolve().parents[1] / "openapi.json").read_text())
    assert audit.get("/openapi.json").json() == kept


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.text(max_size=60), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3), st.binary())
def test_no_input_makes_a_server_error(audit: httpx.Client, path: str, query: dict[str, str], body: bytes) -> None:
    for where in ("/v1/audit/tile/", "/v1/audit/events/", "/v1/audit/tenants/", "/v1/audit/"):
        assert audit.get(where + quote(path, errors="replace"), params=query).status_code < 500
    assert audit.post("/v1/audit/events", content=body, params=query).status_code < 500
