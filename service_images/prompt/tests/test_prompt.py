"""Prompt's REST operations."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit import bus, migrate, quotas
from kit.directory import Grant
from kit.following import Following
from kit.workers import Limits, Workers
from prompt import rendering, store
from prompt.__main__ import PromptSettings, create
from prompt.api import document
from starlette.testclient import TestClient


def add(client: httpx.Client, prompt: Any = "Hello {{ who }}", name: str = "greeting", **more: Any) -> int:
    answer = client.post("/v1/prompts", json={"name": name, "prompt": prompt, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["version"]


def render(client: httpx.Client, name: str = "greeting", **more: Any) -> Any:
    return client.post(f"/v1/prompts/{name}/render", json={"variables": {"who": "you"}, **more})


def test_the_label_selects_the_rendered_version(prompts: httpx.Client) -> None:
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
    assert refused.status_code == 400 and "cycle" in refused.json()["error"]["message"]
    assert prompts.get("/v1/prompts/a/versions").json()[0]["version"] == 1, "nothing was made"


@pytest.mark.parametrize("prompt", ["{{ x", "{% for %}", "{{ ''.__class__", "{% include 'nobody@production' %}"])
def test_templates_that_can_never_render_are_refused(prompts: httpx.Client, prompt: str) -> None:
    assert prompts.post("/v1/prompts", json={"name": "p", "prompt": prompt}).status_code == 400


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Hi {{ name | default('there') }}", "Hi there"),
        ("Hi {{ name | d('there', true) }}", "Hi there"),
        ("Hi {{ user.name | default('there') }}", "Hi there"),
        ("Hi{% if name %} {{ name }}{% endif %}!", "Hi!"),
        ("Hi {{ name if name is defined else 'there' }}", "Hi there"),
        ("Hi {{ name or 'there' }}", "Hi there"),
        ("{% set name = name | default('there') %}Hi {{ name }}", "Hi there"),
        ("Hi{% for name in names | default([]) %} {{ name }}{% else %} there{% endfor %}", "Hi there"),
        ("Hi {% for n in [1] if not name %}there{% endfor %}", "Hi there"),
        ("{% macro m(x) %}{{ x | default('there') }}{% endmacro %}Hi {{ m() }}", "Hi there"),
    ],
)
def test_a_variable_that_the_template_guards_is_optional(prompts: httpx.Client, template: str, text: str) -> None:
    add(prompts, template)
    answer = render(prompts, label="latest", variables={})
    assert (answer.status_code, answer.json().get("prompt")) == (200, text), answer.text


@pytest.mark.parametrize(
    "template",
    [
        "{{ name | default('there') }} {{ name }}",
        "{{ name | upper }}",
        "{{ name | map('upper') | join }}",
        "{% for n in name %}{% endfor %}",
        "{{ [name] }}",
        "{{ name == 'ann' }}",
        "{{ 'a' ~ name }}",
        "{{ other | default(name) }}",
        "{{ range(name) }}",
        "{{ name() }}",
    ],
)
def test_a_variable_whose_value_is_needed_is_not(prompts: httpx.Client, template: str) -> None:
    add(prompts, template)
    answer = render(prompts, label="latest", variables={})
    assert answer.status_code == 400 and answer.json()["error"]["message"] == "variables: name: the value is missing"


def test_a_variable_that_an_included_prompt_needs_is_missing_too(prompts: httpx.Client) -> None:
    add(prompts, "{{ a }}", "part")
    add(prompts, "{% include 'part@1' %}{{ b }}")
    message = render(prompts, label="latest", variables={}).json()["error"]["message"]
    assert message == "variables: a: the value is missing; b: the value is missing"


def test_variables_schemas_that_are_not_allowed_are_all_refused_when_they_are_sent(prompts: httpx.Client) -> None:
    schemas = {
        "outside": {"$dynamicRef": "http://127.0.0.1:9/"},
        "endless": {"$dynamicRef": "#"},
        "circle": {"$ref": "#"},
        "pattern": {"patternProperties": {"(": {}}},
        "type": {"type": "text"},
        "text": "text",
    }
    answer = prompts.post("/v1/prompts", json={"name": "p", "prompt": "{{ x", "variables": schemas})
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400
    assert all(f"variables.{name}" in message for name in schemas) and "prompt: line 1" in message


def test_a_stored_schema_that_is_not_allowed_anymore_is_reported(
    prompts: httpx.Client, settings: PromptSettings
) -> None:
    add(prompts)
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO versions SELECT tenant, name, 2, content, %s, config, includes, message, actor FROM versions",
            ('{"who": {"$dynamicRef": "#"}}',),
        )
    answer = render(prompts, version=2)
    assert answer.status_code == 400 and "create a new version" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config", {"a": "x" * 70_000}),
        ("variables", {f"v{n}": {} for n in range(101)}),
        ("variables", {"v": {"description": "x" * 70_000}}),
        ("labels", [f"l{n}" for n in range(21)]),
        ("message", "x" * 1001),
        ("prompt", "x" * 140_000),
    ],
)
def test_oversized_fields_are_refused_with_the_limit(prompts: httpx.Client, field: str, value: Any) -> None:
    answer = prompts.post("/v1/prompts", json={"name": "p", "prompt": "x", field: value})
    assert answer.status_code == 400 and field in answer.json()["error"]["message"]


def test_a_prompt_is_not_too_large_with_all_that_it_includes(prompts: httpx.Client) -> None:
    add(prompts, "x" * 128 * 1024, "part")
    for n in range(4):
        add(prompts, "y" * 100 * 1024 + f"{{% include 'part@1' %}}{n}", f"part{n}")
    includes = "".join(f"{{% include 'part{n}@1' %}}" for n in range(4))
    answer = prompts.post("/v1/prompts", json={"name": "whole", "prompt": includes})
    assert answer.status_code == 400 and "524288 characters" in answer.json()["error"]["message"]


def test_a_prompt_does_not_include_too_many(prompts: httpx.Client) -> None:
    for _ in range(101):
        add(prompts, "x", "part")
    includes = "".join(f"{{% include 'part@{n}' %}}" for n in range(1, 102))
    answer = prompts.post("/v1/prompts", json={"name": "whole", "prompt": includes})
    assert answer.status_code == 400 and "more than 100" in answer.json()["error"]["message"]


@pytest.mark.parametrize("reference", ["a@99999999999999999999", "a@2147483647", "a@nobody", "\\ud800"])
def test_a_missing_include_is_refused(prompts: httpx.Client, reference: str) -> None:
    add(prompts, "x", "a")
    answer = prompts.post("/v1/prompts", json={"name": "b", "prompt": f"{{% include '{reference}' %}}"})
    assert answer.status_code == 400 and "include" in answer.json()["error"]["message"]


def test_half_of_a_surrogate_pair_is_not_rendered(prompts: httpx.Client) -> None:
    add(prompts, "{{ '\\ud800' }}")
    assert render(prompts, label="latest").status_code == 400


def test_a_template_that_exceeds_its_time_is_ended_and_others_are_rendered(
    prompts: httpx.Client, monkeypatch: pytest.MonkeyPatch, settings: PromptSettings
) -> None:
    add(prompts, "{% for i in range(40000) %}{{ who }}{% endfor %}", "heavy")
    monkeypatch.setattr(rendering, "LIMITS", Limits(cpu_s=0.01, wall_s=60))
    with TestClient(create(settings)) as client:
        ended = render(client, "heavy", label="latest")
        assert (ended.status_code, ended.json()["error"]["code"]) == (413, "out_of_time")
    add(prompts)
    assert render(prompts, label="latest").json()["prompt"] == "Hello you"


def test_no_transaction_is_open_while_a_template_is_rendered(
    prompts: httpx.Client, monkeypatch: pytest.MonkeyPatch, settings: PromptSettings
) -> None:
    open_ones: list[int] = []
    call = Workers.call

    async def watched(self: Workers, *arguments: Any, **more: Any) -> Any:
        with psycopg.connect(settings.database(pooled=False)) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'prompt' AND xact_start IS NOT NULL"
            open_ones.extend(connection.execute(query).fetchone() or ())
        return await call(self, *arguments, **more)

    monkeypatch.setattr(Workers, "call", watched)
    add(prompts)
    assert render(prompts, label="latest").status_code == 200
    again = {"idempotency-key": "one"}
    for _ in range(2):
        made = prompts.post("/v1/prompts", json={"name": "once", "prompt": "x"}, headers=again)
        assert (made.status_code, made.json()["version"]) == (201, 1)
    assert set(open_ones) == {0} and len(open_ones) == 4


def test_stored_resources_have_quotas_with_events_before_they_are_reached(
    settings: PromptSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[dict[str, Any]] = []

    async def kept(_: Any, topic: str, _service: str, _key: str, data: dict[str, Any]) -> None:
        if topic == quotas.TOPIC:
            published.append(data)

    monkeypatch.setattr(quotas.outbox, "put", kept)
    most = dict.fromkeys(("prompts", "versions of prompts", "labels of prompts"), 5)
    with TestClient(create(settings.model_copy(update={"quotas": most}))) as prompts:
        _quotas_hold(prompts, published)


def _quotas_hold(prompts: httpx.Client, published: list[dict[str, Any]]) -> None:
    for n in range(5):
        add(prompts, "x", f"p{n}")
    answer = prompts.post("/v1/prompts", json={"name": "p5", "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")
    assert len(prompts.get("/v1/prompts").json()) == 5, "nothing of it was made"
    assert [(d["resource"], d["percent"]) for d in published if d["resource"] == "prompts"] == [
        ("prompts", 80),
        ("prompts", 95),
    ]
    for n in range(5):
        assert prompts.put(f"/v1/prompts/p0/labels/l{n}", json={"version": 1}).status_code == 200
    assert prompts.put("/v1/prompts/p0/labels/l0", json={"version": 1}).status_code == 200, "it is there already"
    assert prompts.put("/v1/prompts/p0/labels/l5", json={"version": 1}).status_code == 429


# --- names ----------------------------------------------------------------------------------------

PARTS = st.text(st.sampled_from("aZ0._-/"), min_size=1, max_size=12)
WORDS = st.sampled_from(["a", "b.c", "_d", "versions", "diff", "render", "promote", "labels", "splits", "..", ".", ""])
NAMES = st.one_of(PARTS, st.lists(WORDS, min_size=1, max_size=12).map("/".join))


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
@example("a/")
@example("a//b")
@example("/".join("abcdefghij"))
@example("a/versions")
@example("a/labels/b")
@example("a/../b")
def test_every_name_that_is_accepted_is_reachable_by_every_operation(prompts: httpx.Client, name: str) -> None:
    made = prompts.post("/v1/prompts", json={"name": name, "prompt": "x"})
    if made.status_code == 400:
        assert "name" in made.json()["error"]["message"]
        return
    assert made.status_code == 201, made.text
    for path in (f"/v1/prompts/{name}", f"/v1/prompts/{quote(name, safe='')}"):
        assert prompts.get(path, params={"version": 1}).json()["name"] == name
        assert prompts.get(f"{path}/versions").json()[0]["name"] == name
        assert prompts.put(f"{path}/labels/production", json={"version": 1}).json()["version"] == 1
        assert prompts.post(f"{path}/render", json={}).json()["name"] == name
        promoted = prompts.post(f"{path}/promote", json={"from": "production", "to": "staging"})
        assert promoted.json()["version"] == 1
        split = {"weights": {"production": 1, "staging": 1}}
        assert prompts.put(f"{path}/splits/half", json=split).status_code == 200
        assert prompts.get(f"{path}/diff", params={"a": 1, "b": 1}).json()["diff"] == ""
        assert prompts.get(path.replace("/v1/", "/api/public/v2/")).json()["name"] == name
        assert prompts.delete(f"{path}/labels/staging").status_code == 204
        assert name in [prompt["name"] for prompt in prompts.get("/v1/prompts").json()]
    assert prompts.delete(f"/v1/prompts/{quote(name, safe='')}").status_code == 204
    assert prompts.get(f"/v1/prompts/{name}", params={"version": 1}).status_code == 404


@pytest.mark.parametrize("name", ["a/", "a//b", "a/../b"])
def test_a_name_that_was_accepted_before_is_still_reachable(
    prompts: httpx.Client, settings: PromptSettings, name: str
) -> None:
    add(prompts)
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute("INSERT INTO prompts SELECT tenant, %s, type, last FROM prompts", (name,))
        connection.execute(
            "INSERT INTO versions SELECT tenant, %s, number, content, variables, config, includes, message, actor "
            "FROM versions",
            (name,),
        )
    path = f"/v1/prompts/{quote(name, safe='')}"
    assert prompts.get(path, params={"label": "latest"}).json()["name"] == name
    assert prompts.delete(path).status_code == 204


def test_every_variable_that_is_wrong_is_named(prompts: httpx.Client) -> None:
    schemas = {"age": {"type": "integer", "minimum": 0}, "mail": {"type": "string", "pattern": "^[^@]+@[^@]+$"}}
    add(prompts, "{{ age }}{{ mail }}{{ name }}", variables=schemas)
    message = render(prompts, label="latest", variables={"age": -1, "mail": "x"}).json()["error"]["message"]
    assert "age" in message and "mail" in message and "name: the value is missing" in message


@pytest.mark.parametrize("value", ['{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": [1e999]}'])
@pytest.mark.parametrize("field", ["config", "variables"])
def test_values_that_the_database_cannot_store_are_refused(prompts: httpx.Client, field: str, value: str) -> None:
    body = f'{{"name": "p", "prompt": "x", "{field}": {{"x": {value}}}}}'
    assert prompts.post("/v1/prompts", content=body).status_code == 400


def test_a_pattern_that_could_take_for_ever_is_refused(prompts: httpx.Client) -> None:
    schemas = {"x": {"type": "string", "pattern": r"(a+)\1+$"}}
    assert prompts.post("/v1/prompts", json={"name": "p", "prompt": "x", "variables": schemas}).status_code == 400


def test_the_actor_of_a_split_is_recorded(prompts: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    add(prompts, "a", labels=["a", "b"])
    seen: list[dict[str, Any]] = []

    async def kept(_: Any, _topic: str, _service: str, _key: str, data: dict[str, Any]) -> None:
        seen.append(data)

    monkeypatch.setattr(store.outbox, "put", kept)
    answer = prompts.put("/v1/prompts/greeting/splits/test", json={"weights": {"a": 1, "b": 1}})
    assert answer.status_code == 200, answer.text
    assert [(d["change"], d["label"], d["actor"]) for d in seen] == [("split-set", "test", "key:default")]


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


def test_a_promotion_needs_the_expected_version(prompts: httpx.Client) -> None:
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


def test_langfuses_clients_find_prompts(prompts: httpx.Client) -> None:
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


def test_an_unavailable_cache_adds_no_delay(settings: PromptSettings) -> None:
    with TestClient(create(settings.model_copy(update={"cache_url": "redis://127.0.0.1:9"}))) as client:
        add(client, labels=["production"])
        assert render(client).json()["prompt"] == "Hello you"


# --- rights of keys -------------------------------------------------------------------------------


@pytest.fixture
def keyed(settings: PromptSettings, nats_server: Any, known_keys: Any) -> Any:
    """Prompt with known keys: a writer's, a manager's, and another tenant's."""
    nats_server.make_buckets("labels")
    grants = {
        "writer": Grant("acme", "1", scopes=("prompts",)),
        "manager": Grant("acme", "2", scopes=("prompts", "manage")),
        "other": Grant("other", "3", scopes=("prompts",)),
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


def test_a_moved_label_is_published_within_a_second(settings: PromptSettings, nats_server: Any) -> None:
    nats_server.make_buckets("labels")
    published: dict[str, Any] = {}

    def take(key: str, value: bytes | None) -> None:
        published[bus.parts(key)[-1]] = json.loads(value)["version"] if value else None

    async def becomes(label: str, version: int | None, within_s: float = 1.0) -> None:
        deadline = time.monotonic() + within_s
        while published.get(label, 0) != version:
            assert time.monotonic() < deadline, published
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


def test_migrations_can_be_reverted_and_repeated(settings: PromptSettings) -> None:
    url = settings.database(pooled=False)
    migrate.migrate("prompt", url, "downgrade", "base")
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert rows == (1,)  # Alembic's own
    migrate.migrate("prompt", url)


def test_the_openapi_document_is_current() -> None:
    kept = json.loads((Path(__file__).parents[1] / "openapi.json").read_text())
    assert document() == kept
