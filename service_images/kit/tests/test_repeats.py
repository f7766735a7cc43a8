"""Repeated requests with an Idempotency-Key, with a real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from kit import repeats, service
from kit.database import Database
from kit.directory import Grant
from kit.errors import ApiError, unavailable
from kit.rest import Call, Model, Operation
from kit.settings import ServiceSettings
from starlette.testclient import TestClient

CALLERS = {"ann": Grant("acme", "1"), "bob": Grant("acme", "2")}


class Thing(Model):
    """A created object."""

    name: str


class Things:
    """A service that creates objects, each with a secret that is shown once."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.database = Database(settings)
        self.breaks = 0
        """Number of requests that fail after they have created an object."""

    async def make(self, call: Call[Any, Thing]) -> dict[str, Any]:
        """Create an object in a transaction."""
        secret = secrets.token_hex(16)
        async with self.database.transaction() as connection:
            if call.body.name == "wrong":
                raise ApiError(409, "there is one")
            await connection.execute("INSERT INTO things VALUES (%s)", (call.body.name,))
        if self.breaks:
            self.breaks -= 1
            raise unavailable("Somebody")
        return {"name": call.body.name, "secret": secret}

    async def caller(self, key: str) -> Grant:
        """Ann, or Bob."""
        return CALLERS[key]

    def application(self) -> Any:
        """Everything together."""
        operation = Operation("POST", "/v1/things", "Make.", self.make, body=Thing, status=201, scope="", makes=True)
        return service.create("Things", [operation], database=self.database, authenticate=self.caller)


@pytest.fixture
def url(service_database: Callable[[str], dict[str, Any]], postgres_server: Any) -> Iterator[str]:
    service_database("things")
    found = postgres_server.url("things", "things")
    with psycopg.connect(found, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (name text)")
        connection.execute(repeats.TABLE)
    yield found


@pytest.fixture
def things(url: str, postgres_server: Any) -> Things:
    port = postgres_server.port
    more: dict[str, Any] = {"postgres_host": "127.0.0.1", "postgres_port": port, "postgres_pool_port": port}
    return Things(ServiceSettings(name="things", **more))


@pytest.fixture
def client(things: Things) -> Iterator[httpx.Client]:
    with TestClient(things.application(), raise_server_exceptions=False) as made:
        yield made


def make(client: httpx.Client, key: str = "", name: str = "a", caller: str = "ann") -> httpx.Response:
    headers = {"authorization": f"Bearer {caller}", **({"idempotency-key": key} if key else {})}
    return client.post("/v1/things", json={"name": name}, headers=headers)


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        (found,) = connection.execute("SELECT count(*) FROM things").fetchone()  # type: ignore[misc]
    return found


def test_a_request_that_is_sent_again_is_answered_the_same_and_does_nothing_twice(
    client: httpx.Client, url: str
) -> None:
    first, again = make(client, "k1"), make(client, "k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert count(url) == 1


def test_without_an_idempotency_key_each_request_takes_effect(client: httpx.Client, url: str) -> None:
    assert make(client).json() != make(client).json()
    assert count(url) == 2


def test_many_at_once_do_it_once(client: httpx.Client, url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: make(client, "k1"), range(16)))
    given = {answer.text for answer in answers if answer.status_code == 201}
    assert len(given) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert count(url) == 1


def test_an_idempotency_key_of_another_request_is_refused(client: httpx.Client, url: str) -> None:
    make(client, "k1")
    answer = make(client, "k1", name="b")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert count(url) == 1


def test_keys_of_callers_are_their_own(client: httpx.Client, url: str) -> None:
    assert make(client, "k1").json() != make(client, "k1", caller="bob").json()
    assert count(url) == 2


def test_a_refused_request_can_be_retried(client: httpx.Client, url: str) -> None:
    assert make(client, "k1", name="wrong").status_code == 409
    assert make(client, "k1", name="right").status_code == 201
    assert count(url) == 1


def test_an_interrupted_request_changes_nothing_and_its_retry_runs_once(
    things: Things, client: httpx.Client, url: str
) -> None:
    things.breaks = 1
    assert make(client, "k1").status_code == 503
    assert count(url) == 0
    assert make(client, "k1").status_code == 201
    assert count(url) == 1


def test_stored_answers_are_unreadable_without_the_callers_keys(client: httpx.Client, url: str) -> None:
    secret = make(client, "k1").json()["secret"]
    with psycopg.connect(url) as connection:
        (row,) = connection.execute("SELECT * FROM repeats").fetchall()
    kept = b"".join(bytes(value) for value in row if isinstance(value, bytes | memoryview))
    assert secret.encode() not in kept
    assert b"k1" not in kept


def test_an_answer_is_forgotten_after_a_day(client: httpx.Client, url: str) -> None:
    make(client, "k1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE repeats SET made = made - interval '25 hours'")
    assert make(client, "k1").headers.get("idempotency-replayed") is None
    assert count(url) == 2


@pytest.mark.parametrize("key", ["with space", "x" * 256, "é"])
def test_a_key_that_cannot_be_is_refused(client: httpx.Client, url: str, key: str) -> None:
    headers: Any = {"authorization": "Bearer ann", "idempotency-key": key.encode("latin-1")}
    answer = client.post("/v1/things", json={"name": "a"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")
    assert count(url) == 0
