"""User's REST operations."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import nats
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit import bus, directory, limits, migrate
from kit.database import Database
from kit.directory import Grant
from kit.following import Following
from kit.settings import ServiceSettings
from pydantic import SecretStr
from starlette.testclient import TestClient
from user import deleting
from user.__main__ import UserSettings, create
from user.api import document

KEYS = "/v1/tenants/acme/keys"


def key(client: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = client.post(KEYS, json={"name": "k", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def as_(client: httpx.Client, secret: str) -> dict[str, Any]:
    return {"headers": {"authorization": f"Bearer {secret}"}}


def invite(client: httpx.Client, email: str = "ann@example.com") -> str:
    answer = client.post("/v1/tenants/acme/users", json={"email": email})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_requests_without_a_key_are_refused(user: httpx.Client) -> None:
    assert user.get("/v1/tenants", headers={"authorization": ""}).status_code == 401


def test_a_key_is_shown_once_and_never_kept(acme: httpx.Client, settings: UserSettings) -> None:
    made = key(acme)
    assert "key" not in acme.get(KEYS).json()[0]
    with psycopg.connect(settings.database(pooled=False)) as connection:
        rows = connection.execute("SELECT k::text FROM keys k").fetchall()
    assert made["key"] not in str(rows)


def test_a_lost_answer_to_a_key_creation_can_be_requested_again(acme: httpx.Client) -> None:
    again = {"idempotency-key": "4f2c"}
    first, second = (acme.post(KEYS, json={"name": "k"}, headers=again).json() for _ in range(2))
    assert first == second
    assert len(acme.get(KEYS).json()) == 1


def test_a_tenants_key_sees_no_other_tenant(acme: httpx.Client) -> None:
    acme.post("/v1/tenants", json={"id": "other"})
    mine = as_(acme, key(acme)["key"])
    assert acme.get("/v1/tenants/acme/users", **mine).status_code == 200
    assert acme.get("/v1/tenants/other/users", **mine).status_code == 404
    assert acme.get("/v1/tenants", **mine).status_code == 403


def test_a_revoked_key_is_refused(acme: httpx.Client) -> None:
    made = key(acme)
    assert acme.delete(f"{KEYS}/{made['id']}").status_code == 204
    assert acme.get("/v1/self", **as_(acme, made["key"])).status_code == 401


def test_an_expired_key_is_refused(acme: httpx.Client) -> None:
    made = key(acme, expires=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    assert acme.get("/v1/self", **as_(acme, made["key"])).status_code == 401


def test_revoking_a_key_revokes_all_derived_keys(
    acme: httpx.Client, published: Callable[[], list[dict[str, Any]]]
) -> None:
    other = key(acme)
    made = [key(acme)]
    for _ in range(3):
        made.append(acme.post(KEYS, json={"name": "k"}, **as_(acme, made[-1]["key"])).json())
    assert acme.delete(f"{KEYS}/{made[1]['id']}").status_code == 204
    statuses = [acme.get("/v1/self", **as_(acme, one["key"])).status_code for one in (*made, other)]
    assert statuses == [200, 401, 401, 401, 200]
    revoked = [data["id"] for data in published() if data["change"] == "revoked"]
    assert sorted(revoked) == sorted(one["id"] for one in made[1:])


def test_a_key_that_replaced_its_maker_stays_until_that_is_revoked_again(acme: httpx.Client) -> None:
    old = key(acme)
    new = acme.post(KEYS, json={"name": "new"}, **as_(acme, old["key"])).json()
    assert acme.delete(f"{KEYS}/{old['id']}", params={"made": "keep"}).status_code == 204
    assert acme.get("/v1/self", **as_(acme, old["key"])).status_code == 401
    assert acme.get("/v1/self", **as_(acme, new["key"])).status_code == 200
    assert acme.delete(f"{KEYS}/{old['id']}").status_code == 204
    assert acme.get("/v1/self", **as_(acme, new["key"])).status_code == 401


def test_no_key_outlives_the_one_that_made_it(acme: httpx.Client) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    mine = as_(acme, key(acme, expires=soon)["key"])
    assert acme.post(KEYS, json={"name": "k"}, **mine).json()["expires"] is not None
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert acme.post(KEYS, json={"name": "k", "expires": later}, **mine).status_code == 403


@pytest.mark.parametrize("scopes", [["admin"], ["inference"], []])
def test_rights_beyond_ones_own_cannot_be_granted(acme: httpx.Client, scopes: list[str]) -> None:
    mine = as_(acme, key(acme, scopes=["manage", "prompts"])["key"])
    assert acme.post(KEYS, json={"name": "k", "scopes": scopes}, **mine).status_code == 403
    assert acme.post(KEYS, json={"name": "k", "scopes": ["prompts"]}, **mine).status_code == 201


def test_the_id_of_a_deleted_tenant_is_never_given_again(
    acme: httpx.Client, published: Callable[[], list[dict[str, Any]]]
) -> None:
    made = key(acme)
    assert acme.get("/v1/tenants/acme/deletion").status_code == 404
    assert acme.delete("/v1/tenants/acme").status_code == 204
    event, noted = published()[-2:]
    assert event == {"tenant": "acme", "actor": noted["actor"]}
    assert (noted["tenant"], noted["id"]) == ("default", "acme"), "the deleted one's own entries are shredded"
    assert acme.get("/v1/self", **as_(acme, made["key"])).status_code == 401
    answer = acme.post("/v1/tenants", json={"id": "acme"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "tenant_id_used")


def test_a_deletion_lists_the_services_that_have_erased_the_tenant(settings: UserSettings, user: httpx.Client) -> None:
    both = settings.model_copy(update={"erased_by": ("prompt", "retriever")})

    async def acknowledge() -> None:
        database = Database(settings)
        await database.open()
        async with database.transaction() as connection:
            for _ in range(2):  # an event may come twice
                await deleting.acknowledge(connection, "acme", "prompt")
        await database.close()

    with TestClient(create(both)) as client:
        client.headers.update(user.headers)
        client.post("/v1/tenants", json={"id": "acme"})
        client.delete("/v1/tenants/acme")
        assert client.get("/v1/tenants/acme/deletion").json()["waiting"] == ["prompt", "retriever"]
        asyncio.run(acknowledge())
        found = client.get("/v1/tenants/acme/deletion").json()
        assert (found["waiting"], list(found["erased"])) == (["retriever"], ["prompt"])


SOON = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"user": "other"}, "user"),
        ({"expires": (SOON + timedelta(seconds=1)).isoformat()}, "expires"),
        ({"scopes": ["manage", "inference"]}, "scopes"),
        ({"scopes": ["impersonate"]}, "scopes"),
    ],
)
def test_a_key_gives_at_most_its_makers_scopes_user_and_end(
    acme: httpx.Client, more: dict[str, Any], field: str
) -> None:
    bob, other = invite(acme, "bob@example.com"), invite(acme, "ann@example.com")
    mine = as_(acme, key(acme, scopes=["manage", "retrieval"], user=bob, expires=SOON.isoformat())["key"])
    wanted = {"name": "k", "scopes": ["retrieval"]} | more | ({"user": other} if "user" in more else {})
    answer = acme.post(KEYS, json=wanted, **mine)
    assert (answer.status_code, answer.json()["error"]["param"]) == (403, field)
    made = acme.post(KEYS, json={"name": "k", "scopes": ["retrieval"]}, **mine).json()
    assert (made["user"], datetime.fromisoformat(made["expires"])) == (bob, SOON), "what is left out is the maker's"


def test_all_rights_beyond_the_makers_are_named_at_once(acme: httpx.Client) -> None:
    bob, ann = invite(acme, "bob@example.com"), invite(acme, "ann@example.com")
    mine = as_(acme, key(acme, scopes=["manage"], user=bob, expires=SOON.isoformat())["key"])
    later = (SOON + timedelta(days=1)).isoformat()
    message = acme.post(KEYS, json={"name": "k", "user": ann, "expires": later}, **mine).json()["error"]["message"]
    assert all(f"{field}: " in message for field in ("scopes", "user", "expires"))


def test_keys_for_others_need_a_scope_of_its_own(acme: httpx.Client) -> None:
    ann = invite(acme)
    manager = as_(acme, key(acme, scopes=["manage", "inference"])["key"])
    both = as_(acme, key(acme, scopes=["manage", "impersonate", "inference"])["key"])
    wanted = {"name": "k", "user": ann, "scopes": ["inference"]}
    assert acme.post(KEYS, json=wanted, **manager).status_code == 403
    assert acme.post(KEYS, json=wanted, **both).status_code == 201


def test_a_key_always_names_what_it_allows(acme: httpx.Client, settings: UserSettings) -> None:
    scopes = set(key(acme)["scopes"])
    assert scopes == {scope.value for scope in directory.Scope} - {"admin", "impersonate"}
    assert not Grant("acme").allows("inference") and not Grant("acme").allows("manage")
    with (
        psycopg.connect(settings.database(pooled=False), autocommit=True) as connection,
        pytest.raises(psycopg.errors.CheckViolation),
    ):
        connection.execute("UPDATE keys SET scopes = '{}'")


def test_keys_without_scopes_keep_their_rights(acme: httpx.Client, settings: UserSettings) -> None:
    ann = invite(acme)
    made, login = key(acme), key(acme, name="login", user=ann)
    url = settings.database(pooled=False)
    migrate.migrate("user", url, "downgrade", "0003")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE keys SET scopes = '{}' WHERE tenant = 'acme'")
        connection.execute("TRUNCATE changes")
    migrate.migrate("user", url)
    found = {one["id"]: set(one["scopes"]) for one in acme.get(KEYS).json()}
    assert {"manage", "inference"} <= found[made["id"]] and "admin" not in found[made["id"]]
    assert "manage" not in found[login["id"]] and "inference" in found[login["id"]]
    with psycopg.connect(url) as connection:
        told_again = connection.execute("SELECT count(*) FROM changes WHERE bucket = 'tenants'").fetchone()
    assert told_again is not None and told_again[0] >= 2


@pytest.mark.parametrize("way", ["role", "relation"])
@pytest.mark.parametrize(("role", "status"), [("owner", 403), ("admin", 403), ("editor", 403), ("member", 204)])
def test_a_role_beyond_the_keys_scopes_cannot_be_granted(acme: httpx.Client, way: str, role: str, status: int) -> None:
    bob = invite(acme, "bob@example.com")
    scopes = ["manage", "inference", "embeddings", "guardrails", "retrieval"]
    mine = as_(acme, key(acme, scopes=scopes, user=bob)["key"])
    if way == "role":
        answer = acme.put(f"/v1/tenants/acme/users/{bob}/roles/{role}", **mine)
    else:
        write = {"object": "tenant:acme", "relation": role, "subject": f"user:{bob}"}
        answer = acme.post("/v1/tenants/acme/relations", json={"writes": [write]}, **mine)
    assert answer.status_code == (200 if way == "relation" and status == 204 else status)


def test_another_operators_key_revokes_the_one_before(settings: UserSettings, user: httpx.Client) -> None:
    def restarted_with(secret: str) -> None:
        other = settings.model_copy(update={"installation_key": SecretStr(secret)})
        with TestClient(create(other)) as client:
            while client.get("/readyz").status_code != 200:
                pass
            assert client.get("/v1/tenants", **as_(client, secret)).status_code == 200

    assert user.post("/v1/tenants", json={"id": "acme"}).status_code == 201
    made = key(user)
    restarted_with("cf-another")
    assert user.get("/v1/tenants").status_code == 401
    assert user.get("/v1/self", **as_(user, made["key"])).status_code == 200, "rotation is no revocation"
    restarted_with(settings.installation_key.get_secret_value())
    assert user.get("/v1/tenants", **as_(user, "cf-another")).status_code == 401


def test_deleting_a_user_deletes_keys_and_rights(acme: httpx.Client) -> None:
    ann = invite(acme)
    made = key(acme, user=ann)
    acme.put(f"/v1/tenants/acme/users/{ann}/roles/editor")
    by_her = acme.post(KEYS, json={"name": "k"}, **as_(acme, made["key"])).json()
    assert acme.delete(f"/v1/tenants/acme/users/{ann}").status_code == 204
    assert acme.get("/v1/self", **as_(acme, made["key"])).status_code == 401
    assert acme.get("/v1/self", **as_(acme, by_her["key"])).status_code == 401
    assert not allowed(acme, f"user:{ann}", "editor", "tenant:acme")


@pytest.fixture
def published(settings: UserSettings) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Function that returns the data of all events since the test began."""
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        # Rows of the outbox are deleted at once, so a trigger records them.
        connection.execute("DROP TABLE IF EXISTS seen")
        connection.execute("CREATE TABLE seen (event jsonb)")
        connection.execute(
            "CREATE OR REPLACE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO seen VALUES (NEW.payload::jsonb); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE OR REPLACE TRIGGER see AFTER INSERT ON events.outbox FOR EACH ROW EXECUTE FUNCTION see()"
        )
        yield lambda: [row[0]["data"] for row in connection.execute("SELECT event FROM seen")]
        connection.execute("DROP TRIGGER see ON events.outbox")
        connection.execute("DROP TABLE seen")


def test_every_change_is_in_the_outbox_under_its_actor(
    acme: httpx.Client, published: Callable[[], list[dict[str, Any]]]
) -> None:
    made = key(acme)
    acme.delete(f"{KEYS}/{made['id']}")
    found = published()
    assert [(data["kind"], data["change"]) for data in found] == [("key", "created"), ("key", "revoked")]
    assert made["key"] not in json.dumps(found)
    assert all(data["actor"].startswith("key:") for data in found)


def test_a_policy_that_the_database_cannot_keep_is_refused(acme: httpx.Client) -> None:
    answer = acme.put("/v1/tenants/acme/policy", content='{"policy": {"a": "\\u0000"}}')
    assert answer.status_code == 400


POLICY = "/v1/tenants/acme/policy"
POLICIES: list[dict[str, Any]] = [
    {"packs": [], "rules": [], "topics": []},
    {"output_schema": {"enum": [[1, 2], ["a"], {"b": None}]}},
    {"output_schema": {"const": {"a": [[], {}, [{}]], "B": 1.5, "ü": "\U0001f600"}}},
    {"rules": [{"detect": "email", "action": "redact", "on": ["output"]}]},
    {},
]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_is_kept_and_audited_as_it_was_sent(
    acme: httpx.Client, published: Callable[[], list[dict[str, Any]]], policy: dict[str, Any]
) -> None:
    mine = as_(acme, key(acme, scopes=["manage"])["key"])
    answer = acme.put(POLICY, json={"policy": policy}, **mine)
    assert answer.status_code == 200, answer.text
    assert answer.json()["policy"] == policy == acme.get(POLICY, **mine).json()["policy"]
    assert published()[-1]["after"] == {"policy": policy}


@pytest.mark.parametrize(
    ("policy", "place", "fix"),
    [
        ({"rules": [{"detect": "emial", "action": "block"}]}, "policy.rules.0.detect", "email"),
        ({"rules": [{"detect": "email", "action": "blok"}]}, "policy.rules.0.action", "block"),
        ({"packz": ["gdpr"]}, "policy.packz", ""),
        ({"packs": ["gdprr"]}, "policy.packs.0", "gdpr"),
        ({"output_schema": {"$dynamicRef": "http://127.0.0.1:9/"}}, "policy.output_schema", ""),
        ({"topics": [{"name": "x", "words": ["ab" * 50] * 500}] * 2}, "policy", "65536"),
        ([], "policy", ""),
    ],
)
def test_a_policy_that_could_not_be_in_force_is_refused_with_its_place(
    acme: httpx.Client, published: Callable[[], list[dict[str, Any]]], policy: Any, place: str, fix: str
) -> None:
    answer = acme.put(POLICY, json={"policy": policy})
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400 and place in message and fix in message, message
    assert acme.get(POLICY).json() == {"policy": None, "in_force": True, "replicas": None, "problems": []}
    assert [one["kind"] for one in published()] == []


def test_all_that_is_wrong_with_a_policy_is_named_at_once(acme: httpx.Client) -> None:
    policy = {"packs": ["gdprr"], "rules": [{"detect": "emial", "action": "blok"}]}
    message = acme.put(POLICY, json={"policy": policy}).json()["error"]["message"]
    assert all(place in message for place in ("packs.0", "rules.0.detect", "rules.0.action"))


def test_a_policy_is_in_force_once_every_replica_of_guardrails_has_applied_it(
    settings: UserSettings, nats_server: Any
) -> None:
    headers = {"authorization": f"Bearer {settings.installation_key.get_secret_value()}"}
    with TestClient(create(settings)) as client:  # without NATS
        while client.get("/readyz").status_code != 200:
            pass
        client.post("/v1/tenants", json={"id": "acme"}, headers=headers)
        client.put(POLICY, json={"policy": {"packs": ["gdpr"]}}, headers=headers)
        assert client.get(POLICY, headers=headers).json()["in_force"] is False
    nats_server.make_buckets("tenants", "policies", "deleted")
    login = bus.options(ServiceSettings(name="guardrails"))

    def refuse(_key: str, value: bytes | None) -> None:
        if value and b"gdpr" not in value:
            raise ValueError("an older Guardrails does not know this")

    async def replicas(ended: asyncio.Event) -> None:
        """Two replicas of Guardrails, one of which only accepts policies with this pack."""
        takes: dict[str, Callable[[str, bytes | None], None]] = {"new": lambda _key, _value: None, "old": refuse}
        running = [
            asyncio.create_task(Following(nats_server.url, "policies", take, login, name).run())
            for name, take in takes.items()
        ]
        await ended.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    with TestClient(create(settings.model_copy(update={"nats_url": nats_server.url}))) as client:

        def becomes(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            deadline = time.monotonic() + 30
            while not wanted(found := client.get(POLICY, headers=headers).json()):
                assert time.monotonic() < deadline, found
            return found

        handed = becomes(lambda found: found["replicas"] is not None)
        assert not handed["in_force"] and handed["replicas"]["of"] == 0, "nobody has applied it yet"
        assert client.portal
        ended = client.portal.call(asyncio.Event)
        following = client.portal.start_task_soon(replicas, ended)
        found = becomes(lambda found: found["in_force"])
        assert found["replicas"] == {"in_force": 2, "of": 2, "behind": []}
        client.put(POLICY, json={"policy": {"packs": ["secrets"]}}, headers=headers)
        found = becomes(lambda found: bool(found["replicas"] and found["replicas"]["in_force"] == 1))
        reason = "an older Guardrails does not know this"
        assert not found["in_force"]
        assert found["replicas"]["behind"] == [{"service": "guardrails", "instance": "old", "reason": reason}]
        listed = client.get("/v1/user/replicas", headers=headers).json()["data"]
        assert {(one["instance"], *one["rejected"].values()) for one in listed} == {("new",), ("old", reason)}
        client.portal.call(ended.set)
        following.result(10)


def test_an_unvalidated_stored_policy_reports_its_mistakes(acme: httpx.Client, settings: UserSettings) -> None:
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute("""UPDATE tenants SET policy = '{"packz": ["gdpr"]}' WHERE id = 'acme'""")
        connection.execute("TRUNCATE changes")
    found = acme.get(POLICY).json()
    assert not found["in_force"] and "packz" in found["problems"][0]


def test_no_event_of_a_tenant_is_too_large(acme: httpx.Client, published: Callable[[], list[dict[str, Any]]]) -> None:
    most = [f"{n:0100}" + "\x01" * 0 + "ü" * 100 for n in range(100)]
    assert acme.put("/v1/tenants/acme", json={"name": "\U0001f600" * 200, "models": most}).status_code == 200
    assert len(json.dumps(published()[-1]["after"])) < limits.AFTER.bytes
    answer = acme.put("/v1/tenants/acme", json={"models": [*most, "one more"]})
    assert answer.status_code == 400 and "20000" in answer.json()["error"]["message"]


def test_stored_resources_have_quotas_with_events_before_they_are_reached(
    acme: httpx.Client, settings: UserSettings, published: Callable[[], list[dict[str, Any]]]
) -> None:
    most = dict.fromkeys(("users", "teams", "keys", "relations"), 4)
    configured = settings.model_copy(update={"quotas": most, "quotas_of": {"small": {"teams": 1}}})
    headers = dict(acme.headers)
    with TestClient(create(configured), headers=headers) as acme:
        while acme.get("/readyz").status_code != 200:
            pass
        _quotas_hold(acme, published)
        acme.post("/v1/tenants", json={"id": "small"})
        made = [acme.post("/v1/tenants/small/teams", json={"id": f"t{n}"}).status_code for n in range(2)]
        assert made == [201, 429], "a tenant's own quota"


def _quotas_hold(acme: httpx.Client, published: Callable[[], list[dict[str, Any]]]) -> None:
    first = key(acme)
    ways: dict[str, Callable[[int], httpx.Response]] = {
        "keys": lambda n: acme.post(KEYS, json={"name": str(n)}),
        "users": lambda n: acme.post("/v1/tenants/acme/users", json={"email": f"u{n}@example.com"}),
        "teams": lambda n: acme.post("/v1/tenants/acme/teams", json={"id": f"t{n}"}),
        "relations": lambda n: acme.post(
            "/v1/tenants/acme/relations",
            json={"writes": [{"object": f"a:{n}", "relation": "owner", "subject": "user:x"}]},
        ),
    }
    for what, way in ways.items():
        statuses = [way(n).status_code for n in range(5)]
        assert statuses[-1] == 429 and all(status < 300 for status in statuses[:3]), what
    reached = {(d["resource"], d["percent"]) for d in published() if "percent" in d}
    assert reached == {(what, percent) for what in ways for percent in (80, 95)}
    acme.delete(f"{KEYS}/{first['id']}")
    assert ways["keys"](9).status_code == 201, "what is revoked does not count"


def test_a_service_that_forwards_a_key_never_stores_it(acme: httpx.Client) -> None:
    assert acme.post(KEYS, json={"name": "k"}).headers["cache-control"] == "no-store"


# --- relations ------------------------------------------------------------------------------------


def relate(client: httpx.Client, *tuples: tuple[str, str, str], tenant: str = "acme") -> None:
    writes = [{"object": o, "relation": r, "subject": s} for o, r, s in tuples]
    answer = client.post(f"/v1/tenants/{tenant}/relations", json={"writes": writes})
    assert answer.status_code == 200, answer.text


def allowed(client: httpx.Client, subject: str, relation: str, object_: str, tenant: str = "acme") -> bool:
    question = {"tenant": tenant, "subject": subject, "relation": relation, "object": object_}
    answer = client.post("/v1/check", json=question)
    assert answer.status_code == 200, answer.text
    return answer.json()["allowed"]


def test_a_right_comes_through_a_team_a_stronger_right_and_a_parent(acme: httpx.Client) -> None:
    relate(
        acme,
        ("team:red", "member", "user:ann"),
        ("store:s", "editor", "team:red#member"),
        ("document:d", "parent", "store:s"),
    )
    assert allowed(acme, "user:ann", "viewer", "document:d")
    assert not allowed(acme, "user:ann", "owner", "document:d")
    assert not allowed(acme, "user:bob", "viewer", "document:d")


def test_a_types_name_is_no_pattern(acme: httpx.Client) -> None:
    relate(acme, ("a_c:1", "viewer", "user:x"), ("abc:2", "viewer", "user:x"))
    asked = {"tenant": "acme", "subject": "user:x", "relation": "viewer", "type": "a_c"}
    assert acme.post("/v1/list-objects", json=asked).json()["objects"] == ["a_c:1"]


def test_circles_end(acme: httpx.Client) -> None:
    relate(acme, ("team:a", "member", "team:b#member"), ("team:b", "member", "team:a#member"))
    assert not allowed(acme, "user:ann", "member", "team:a")


NAMES = st.sampled_from(["a", "b", "c"])
OBJECTS = st.builds(lambda kind, name: f"{kind}:{name}", st.sampled_from(["team", "doc", "box"]), NAMES)
SUBJECTS = st.one_of(
    st.builds("user:{}".format, NAMES),
    st.builds(lambda o, r: f"{o}#{r}", OBJECTS, st.sampled_from(["member", "viewer", "owner"])),
)
DIRECT = st.tuples(OBJECTS, st.sampled_from(["owner", "editor", "viewer", "member"]), SUBJECTS)
PARENTS = st.tuples(OBJECTS, st.just("parent"), OBJECTS)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(DIRECT, PARENTS), max_size=12))
def test_a_listing_holds_exactly_what_the_check_allows(acme: httpx.Client, tuples: list[tuple[str, str, str]]) -> None:
    graph = f"graph-{uuid.uuid4().hex}"
    assert acme.post("/v1/tenants", json={"id": graph}).status_code == 201
    relate(acme, *tuples, tenant=graph)
    for relation in ("viewer", "member"):
        asked = {"tenant": graph, "subject": "user:a", "relation": relation, "type": "doc"}
        listed = acme.post("/v1/list-objects", json=asked).json()["objects"]
        checked = [o for o in ("doc:a", "doc:b", "doc:c") if allowed(acme, "user:a", relation, o, graph)]
        assert listed == checked


# --- publication to other services ----------------------------------------------------------------


def test_keys_are_known_and_unknown_everywhere_within_a_second(settings: UserSettings, nats_server: Any) -> None:
    nats_server.make_buckets("tenants", "policies", "deleted")
    known = directory.Directory(nats_server.url)

    async def becomes(wanted: bool, secret: str) -> float:
        began = time.monotonic()
        while (bytes.fromhex(directory.digest(secret)) in known.grants) is not wanted:
            assert time.monotonic() - began < 1, "not within a second"
            await asyncio.sleep(0.005)
        return time.monotonic() - began

    async def follow(client: httpx.Client) -> None:
        following = asyncio.create_task(known.run())
        await asyncio.to_thread(client.post, "/v1/tenants", json={"id": "acme"})
        made = await asyncio.to_thread(key, client)
        began = time.monotonic()
        while made["tenant"] not in known.tenants and time.monotonic() - began < 10:
            await asyncio.sleep(0.01)  # the first connection may take longer
        await becomes(True, made["key"])
        answer = await asyncio.to_thread(client.post, KEYS, json={"name": "k"}, **as_(client, made["key"]))
        await becomes(True, answer.json()["key"])
        await asyncio.to_thread(client.delete, f"{KEYS}/{made['id']}")
        await becomes(False, made["key"])
        await becomes(False, answer.json()["key"])
        other = await asyncio.to_thread(key, client)
        await becomes(True, other["key"])
        await asyncio.to_thread(client.delete, "/v1/tenants/acme")
        await becomes(False, other["key"])
        following.cancel()

    published = settings.model_copy(update={"nats_url": nats_server.url})
    with TestClient(create(published)) as client:
        client.headers["authorization"] = f"Bearer {settings.installation_key.get_secret_value()}"
        while client.get("/readyz").status_code != 200:
            pass
        asyncio.run(follow(client))


def test_a_bucket_that_was_lost_is_filled_again(settings: UserSettings, nats_server: Any) -> None:
    with TestClient(create(settings)) as client:
        while client.get("/readyz").status_code != 200:
            pass
        client.headers["authorization"] = f"Bearer {settings.installation_key.get_secret_value()}"
        client.post("/v1/tenants", json={"id": "acme"})
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute("DELETE FROM changes")  # as if they were published to the lost NATS server
    nats_server.make_buckets("tenants", "policies", "deleted")

    async def found() -> bool:
        connection = await nats.connect(nats_server.url)
        store = await connection.jetstream().key_value("tenants")
        try:
            return bool((await store.get(bus.key("t", "acme"))).value)
        except nats.js.errors.KeyNotFoundError:
            return False
        finally:
            await connection.close()

    with TestClient(create(settings.model_copy(update={"nats_url": nats_server.url}))):
        deadline = time.monotonic() + 10
        while not asyncio.run(found()):
            assert time.monotonic() < deadline


def test_a_deletion_holds_whatever_backup_the_database_is_restored_from(
    settings: UserSettings, nats_server: Any, published: Callable[[], list[dict[str, Any]]]
) -> None:
    nats_server.make_buckets("tenants", "policies", "deleted")
    with_nats = settings.model_copy(update={"nats_url": nats_server.url, "erased_by": ("prompt",)})
    operator = {"authorization": f"Bearer {settings.installation_key.get_secret_value()}"}

    def ready(client: httpx.Client) -> None:
        client.headers.update(operator)
        while client.get("/readyz").status_code != 200:
            pass

    with TestClient(create(with_nats)) as client:
        ready(client)
        for tenant in ("acme", "other"):
            assert client.post("/v1/tenants", json={"id": tenant}).status_code == 201
            assert client.delete(f"/v1/tenants/{tenant}").status_code == 204
        nats_server.becomes("deleted", {"acme", "other"})
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        # A backup from a time at which acme existed, and other did not.
        connection.execute("TRUNCATE deleted_tenants, changes, seen")
        connection.execute("INSERT INTO tenants (id) VALUES ('acme')")
        connection.execute(
            "INSERT INTO keys (id, tenant, name, digest, hint, scopes) "
            "VALUES (repeat('0', 32), 'acme', 'k', %s, 'h', '{inference}')",
            (directory.digest("cf-restored"),),
        )
    with TestClient(create(with_nats)) as client:
        ready(client)
        refused = client.post("/v1/tenants", json={"id": "other"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "tenant_id_used")
        deadline = time.monotonic() + 60
        for tenant in ("acme", "other"):
            while (found := client.get(f"/v1/tenants/{tenant}/deletion")).status_code != 200:
                assert time.monotonic() < deadline
            assert found.json()["waiting"] == ["prompt"], "services erase it again"
        assert client.get("/v1/tenants/acme").status_code == 404
        assert client.get("/v1/self", **as_(client, "cf-restored")).status_code == 401
    assert {one["tenant"] for one in published() if one.get("actor") == "service:user"} == {"acme", "other"}


# --- contracts ------------------------------------------------------------------------------------


def test_migrations_can_be_reverted_and_repeated(settings: UserSettings) -> None:
    url = settings.database(pooled=False)
    migrate.migrate("user", url, "downgrade", "base")
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert rows == (1,)  # Alembic's own
    migrate.migrate("user", url)


def test_the_openapi_document_is_current() -> None:
    kept = json.loads((Path(__file__).parents[1] / "openapi.json").read_text())
    assert document() == kept
