"""Prompt as its callers see it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import bus, migrate
from kit.directory import Grant
from kit.following import Following
from prompt import rendering
from prompt.__main__ import PromptSettings, create
from prompt.api import document
from starlette.testclient import TestClient


def add(client: httpx.Client, prompt: Any = "Hello {{ who }}", name: str = "greeting", **more: Any) -> int:
    answer = client.post("/v1/prompts", json={"name": name, "prompt": prompt, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["version"]


def render(client: httpx.Client, name: str = "greeting", **more: Any) -> Any:
    return client.post(f"/v1/prompts/{name}/render", json={"variables": {"who": "you"}, **more})


def test_the_label_says_which_version_is_rendered(prompts: httpx.Client) -> None:
    add(prompts, labels=["production"])
    add(prompts, "Hi {{ who }}")
    assert render(prompts).json()["prompt"] == "Hello you"
    assert render(prompts, label="latest").json()["prompt"] == "Hi you"
    prompts.put("/v1/prompts/greeting/labels/production", json={"version": 2})
    assert render(prompts).json()["prompt"] == "Hi you"


def test_a_version_never_changes(prompts: httpx.Client, settings: PromptSettings) -> None:
    add(prompts)
    with (
        psycopg.connect(settings.database(pooled=False)) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="never changes"),
    ):
        connection.execute("UPDATE versions SET message = 'x'")


def test_messages_of_a_chat_are_rendered_each(prompts: httpx.Client) -> None:
    chat = [{"role": "system", "content": "Be {{ how }}"}, {"role": "user", "content": "{{ who }}?"}]
    add(prompts, chat, type="chat")
    answer = render(prompts, label="latest", variables={"how": "brief", "who": "ann"}).json()
    assert [m["content"] for m in answer["prompt"]] == ["Be brief", "ann?"]


def test_prompts_include_others_where_their_label_is(prompts: httpx.Client) -> None:
    add(prompts, "Be {{ how }}.", "team/style", labels=["production"])
    add(prompts, "{% include 'team/style@production' %} Hello", labels=["production"])
    assert render(prompts, variables={"how": "brief"}).json()["prompt"] == "Be brief. Hello"
    add(prompts, "Be very {{ how }}.", "team/style", labels=["production"])
    assert render(prompts, variables={"how": "brief"}).json()["prompt"] == "Be very brief. Hello"


def test_includes_in_a_circle_are_refused(prompts: httpx.Client) -> None:
    add(prompts, "a", "a", labels=["production"])
    add(prompts, "{% include 'a@production' %}", "b", labels=["production"])
    refused = prompts.post("/v1/prompts", json={"name": "a", "prompt": "{% include 'b@production' %}"})
    assert refused.status_code == 400 and "circle" in refused.json()["error"]["message"]
    assert prompts.get("/v1/prompts/a/versions").json()[0]["version"] == 1, "nothing was made"


@pytest.mark.parametrize("prompt", ["{{ x", "{% for %}", "{{ ''.__class__", "{% include 'nobody@production' %}"])
def test_what_could_never_be_rendered_is_refused(prompts: httpx.Client, prompt: str) -> None:
    assert prompts.post("/v1/prompts", json={"name": "p", "prompt": prompt}).status_code == 400


def test_every_variable_that_is_wrong_is_named(prompts: httpx.Client) -> None:
    schemas = {"age": {"type": "integer", "minimum": 0}, "mail": {"type": "string", "pattern": "^[^@]+@[^@]+$"}}
    add(prompts, "{{ age }}{{ mail }}{{ name }}", variables=schemas)
    message = render(prompts, label="latest", variables={"age": -1, "mail": "x"}).json()["error"]["message"]
    assert "age" in message and "mail" in message and "name: it is missing" in message


@pytest.mark.parametrize("value", ['{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": [1e999]}'])
@pytest.mark.parametrize("field", ["config", "variables"])
def test_what_the_database_cannot_keep_is_refused(prompts: httpx.Client, field: str, value: str) -> None:
    body = f'{{"name": "p", "prompt": "x", "{field}": {{"x": {value}}}}}'
    assert prompts.post("/v1/prompts", content=body).status_code == 400


def test_a_pattern_that_could_take_for_ever_is_refused(prompts: httpx.Client) -> None:
    schemas = {"x": {"type": "string", "pattern": r"(a+)\1+$"}}
    assert prompts.post("/v1/prompts", json={"name": "p", "prompt": "x", "variables": schemas}).status_code == 400


def test_a_split_gives_a_user_always_the_same(prompts: httpx.Client) -> None:
    add(prompts, "a", labels=["a"])
    add(prompts, "b", labels=["b"])
    weights = {"weights": {"a": 0.5, "b": 0.5}}
    assert prompts.put("/v1/prompts/greeting/splits/test", json=weights).status_code == 200
    first = {u: render(prompts, split="test", user=u).json()["prompt"] for u in map(str, range(30))}
    assert first == {u: render(prompts, split="test", user=u).json()["prompt"] for u in first}
    assert set(first.values()) == {"a", "b"}


@given(st.floats(0.05, 0.95))
def test_a_split_divides_by_its_weights(share: float) -> None:
    users = [rendering.chosen({"a": share, "b": 1 - share}, "s", "n", str(i)) for i in range(2000)]
    assert abs(users.count("a") / 2000 - share) < 0.06


def test_a_promotion_moves_only_what_is_where_it_is_thought_to_be(prompts: httpx.Client) -> None:
    add(prompts, labels=["production"])
    add(prompts, "new", labels=["staging"])
    wanted = {"from": "staging", "to": "production", "expected": 2}
    assert prompts.post("/v1/prompts/greeting/promote", json=wanted).status_code == 409
    assert prompts.post("/v1/prompts/greeting/promote", json={**wanted, "expected": 1}).json()["version"] == 2


def test_the_difference_is_shown_by_line(prompts: httpx.Client) -> None:
    add(prompts, "one\ntwo\n")
    add(prompts, "one\nthree\n")
    diff = prompts.get("/v1/prompts/greeting/diff", params={"a": 1, "b": 2}).json()["diff"].splitlines()
    assert "-two" in diff and "+three" in diff


def test_langfuses_clients_find_what_they_look_for(prompts: httpx.Client) -> None:
    add(prompts, labels=["production"], config={"temperature": 0})
    found = prompts.get("/api/public/v2/prompts/greeting").json()
    assert found["prompt"] == "Hello {{ who }}" and found["labels"] == ["production", "latest"]
    assert {"name", "version", "config", "type", "tags"} <= found.keys()


def test_langfuses_clients_list_prompts_by_pages(prompts: httpx.Client) -> None:
    for name in ("a", "b", "c"):
        for text in ("one", "two"):
            prompts.post("/v1/prompts", json={"name": name, "prompt": text, "config": {"n": text}}).raise_for_status()
    prompts.put("/v1/prompts/b/labels/production", json={"version": 1}).raise_for_status()
    found = prompts.get("/api/public/v2/prompts", params={"limit": 2, "page": 2}).json()
    assert found["meta"] == {"page": 2, "limit": 2, "totalItems": 3, "totalPages": 2}
    (last,) = found["data"]
    assert (last["name"], last["versions"], last["lastConfig"]) == ("c", [1, 2], {"n": "two"})
    (labelled,) = prompts.get("/api/public/v2/prompts", params={"label": "production"}).json()["data"]
    assert (labelled["name"], labelled["labels"]) == ("b", ["production", "latest"])
    assert prompts.get("/api/public/v2/prompts", params={"name": "a"}).json()["meta"]["totalItems"] == 1


def test_a_rendered_prompt_is_kept(settings: PromptSettings, cache_server: str) -> None:
    with TestClient(create(settings.model_copy(update={"cache_url": cache_server}))) as client:
        add(client, labels=["production"])
        assert [render(client).json()["cached"] for _ in range(2)] == [False, True]
        assert render(client, variables={"who": "others"}).json()["prompt"] == "Hello others"


def test_a_cache_that_is_away_costs_nothing(settings: PromptSettings) -> None:
    with TestClient(create(settings.model_copy(update={"cache_url": "redis://127.0.0.1:9"}))) as client:
        add(client, labels=["production"])
        assert render(client).json()["prompt"] == "Hello you"


# --- who may what ---------------------------------------------------------------------------------


@pytest.fixture
def keyed(settings: PromptSettings, nats_server: Any, known_keys: Any) -> Any:
    """With keys that the directory knows: a writer's, a manager's, and another tenant's."""
    nats_server.make_buckets("labels")
    grants = {
        "writer": Grant("acme", "1", scopes=("prompts",)),
        "manager": Grant("acme", "2", scopes=("prompts", "manage")),
        "other": Grant("other", "3"),
        "elsewhere": Grant("acme", "4", scopes=("inference",)),
    }
    with TestClient(create(settings.model_copy(update=known_keys(grants)))) as client:
        deadline = time.monotonic() + 10
        while client.get("/v1/prompts", headers={"x-api-key": "writer"}).status_code != 200:
            assert time.monotonic() < deadline
        yield client


def as_(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_tenants_do_not_see_one_another(keyed: httpx.Client) -> None:
    keyed.post("/v1/prompts", json={"name": "p", "prompt": "x"}, headers=as_("writer"))
    assert keyed.get("/v1/prompts/p?label=latest", headers=as_("other")).status_code == 404
    assert keyed.get("/v1/prompts", headers=as_("other")).json() == []


def test_a_key_for_something_else_is_refused(keyed: httpx.Client) -> None:
    assert keyed.get("/v1/prompts", headers=as_("elsewhere")).status_code == 403
    assert keyed.get("/v1/prompts", headers=as_("nobody")).status_code == 401


def test_basic_credentials_are_a_key_too(keyed: httpx.Client) -> None:
    pair = base64.b64encode(b"acme:writer").decode()
    assert keyed.get("/v1/prompts", headers={"authorization": f"Basic {pair}"}).status_code == 200


def test_a_protected_label_is_moved_by_managers_only(keyed: httpx.Client) -> None:
    place = "/v1/prompts/p/labels/production"
    for _ in range(2):
        keyed.post("/v1/prompts", json={"name": "p", "prompt": "x"}, headers=as_("writer"))
    assert keyed.put(place, json={"version": 1, "protected": True}, headers=as_("writer")).status_code == 403
    assert keyed.put(place, json={"version": 1, "protected": True}, headers=as_("manager")).status_code == 200
    assert keyed.put(place, json={"version": 2}, headers=as_("writer")).status_code == 403
    assert keyed.delete(place, headers=as_("writer")).status_code == 403
    assert keyed.delete("/v1/prompts/p", headers=as_("manager")).status_code == 409
    assert keyed.put(place, json={"version": 2}, headers=as_("manager")).status_code == 200


def test_a_moved_label_is_told_within_a_second(settings: PromptSettings, nats_server: Any) -> None:
    nats_server.make_buckets("labels")
    told: dict[str, Any] = {}

    def take(key: str, value: bytes | None) -> None:
        told[bus.parts(key)[-1]] = json.loads(value)["version"] if value else None

    async def becomes(label: str, version: int | None, within_s: float = 1.0) -> None:
        deadline = time.monotonic() + within_s
        while told.get(label, 0) != version:
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.005)

    async def follow(client: httpx.Client) -> None:
        following = asyncio.create_task(Following(nats_server.url, "labels", take).run())
        await asyncio.to_thread(add, client, labels=["production"])
        await becomes("production", 1, 10)
        await asyncio.to_thread(add, client, "new")
        await becomes("latest", 2)
        await asyncio.to_thread(client.put, "/v1/prompts/greeting/labels/production", json={"version": 2})
        await becomes("production", 2)
        await asyncio.to_thread(client.delete, "/v1/prompts/greeting")
        await becomes("production", None)
        following.cancel()

    with TestClient(create(settings.model_copy(update={"nats_url": nats_server.url}))) as client:
        asyncio.run(follow(client))


# --- contracts ------------------------------------------------------------------------------------


def test_migrations_go_back_and_forth(settings: PromptSettings) -> None:
    url = settings.database(pooled=False)
    migrate.migrate("prompt", url, "downgrade", "base")
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert rows == (1,)  # Alembic's own
    migrate.migrate("prompt", url)


def test_the_openapi_document_is_current() -> None:
    kept = json.loads((Path(__file__).parents[1] / "openapi.json").read_text())
    assert document() == kept
