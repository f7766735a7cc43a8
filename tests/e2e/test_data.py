"""The data layer as the services use it: who may do what, events from tables, going back in time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from components.data.layer import login_systems
from components.intents import SERVICES, with_database
from tests.e2e.conftest import forge, local_config
from tests.e2e.data_client import DataClient, data_client

pytestmark = pytest.mark.e2e
OWNERS = [intent.service for intent in with_database()]


@pytest.fixture(scope="module")
def data() -> Iterator[DataClient]:
    with data_client(sorted(login_systems(local_config().data))) as made:
        yield made


@pytest.mark.parametrize("service", OWNERS)
def test_a_service_reads_its_own_database_and_no_other(data: DataClient, service: str) -> None:
    found = data.run(
        """
import psycopg
refused = {}
for database in databases:
    try:
        with postgres(login, database) as connection: connection.execute("SELECT 1")
        refused[database] = ""
    except psycopg.OperationalError as error: refused[database] = str(error)
print(json.dumps(refused))
""",
        login=service,
        databases=OWNERS,
    )
    assert found.pop(service) == ""
    assert all("permission denied" in reason for reason in found.values()), found


def test_a_wrong_password_is_refused(data: DataClient) -> None:
    reason = data.run(
        """
import psycopg
try: psycopg.connect(host="postgres", port=6432, user="audit", password="wrong", dbname="audit", connect_timeout=5)
except psycopg.OperationalError as error: print(json.dumps(str(error)))
"""
    )
    assert "authentication failed" in reason


def test_an_event_may_be_written_by_its_producer_alone(data: DataClient) -> None:
    found = data.run(
        """
from confluent_kafka import Producer
outcome = {}
for login in ("router", "billing"):
    told = []
    producer = Producer(kafka(login, **{"message.timeout.ms": 15000}))
    try:
        producer.produce("usage.recorded.v1", b"{}", on_delivery=lambda error, _: told.append(str(error)))
        producer.flush(20)
    except Exception as error: told.append(str(error))
    outcome[login] = told
print(json.dumps(outcome))
"""
    )
    assert found["router"] == ["None"]
    assert "authorization failed" in found["billing"][0].lower()


def test_an_unknown_topic_is_an_error_and_made_by_nobody(data: DataClient) -> None:
    told = data.run(
        """
from confluent_kafka import Producer
told = []
producer = Producer(kafka("router", **{"message.timeout.ms": 8000}))
producer.produce("no.such.topic", b"{}", on_delivery=lambda error, _: told.append(str(error)))
producer.flush(15)
print(json.dumps(told))
"""
    )
    assert any(word in told[0].lower() for word in ("unknown topic", "authorization failed")), told


def test_a_service_hears_its_own_subjects_only(data: DataClient) -> None:
    errors = data.run(
        """
import asyncio, nats
async def main():
    errors = []
    async def note(error): errors.append(str(error))
    connection = await nats.connect("nats://nats:4222", user="billing", password=secret("billing", "nats"),
                                    error_cb=note, inbox_prefix=b"_INBOX.billing")
    await connection.subscribe("router.used")
    await connection.publish("$KV.tenants.x", b"stolen")
    await connection.flush()
    await asyncio.sleep(0.3)
    await connection.close()
    return errors
print(json.dumps(asyncio.run(main())))
"""
    )
    assert len(errors) == 2, errors
    assert all("permissions violation" in error.lower() for error in errors)


def test_a_bucket_is_its_owners_alone(data: DataClient) -> None:
    code = data.run(
        """
from minio import Minio
from minio.error import S3Error
client = Minio("object-store:7070", access_key="postgres", secret_key=secret("postgres", "objects"), secure=False)
try: list(client.list_objects("documents")); print(json.dumps(""))
except S3Error as error: print(json.dumps(error.code))
"""
    )
    assert code == "AccessDenied"


OUTBOX = """
def put(connection, key, number):
    event = {"specversion": "1.0", "id": uuid.uuid4().hex, "type": "dev.cogniforge.prompt.changed.v1",
             "source": "/services/prompt", "time": "2026-01-01T00:00:00Z",
             "data": {"tenant": run, "name": key, "change": "version-created", "version": number}}
    connection.execute("INSERT INTO events.outbox (aggregatetype, aggregateid, type, payload) VALUES (%s, %s, %s, %s)",
                       ("prompt.changed.v1", key, event["type"], json.dumps(event)))
"""
READ = """
from confluent_kafka import Consumer
def read(run, count, seconds):
    consumer = Consumer(kafka("audit", **{"group.id": f"audit.{run}", "auto.offset.reset": "earliest"}))
    consumer.subscribe(["prompt.changed.v1"])
    found, deadline = {}, time.monotonic() + seconds
    while sum(len(set(numbers)) for numbers in found.values()) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, timeout=1):
            if message.error(): continue
            event = json.loads(message.value())["data"]
            if event["tenant"] == run: found.setdefault(message.key().decode(), []).append(event["version"])
    consumer.close()
    return found
"""


def test_what_a_service_puts_into_its_outbox_becomes_an_event(data: DataClient, unique_name: str) -> None:
    script = OUTBOX + READ + "with postgres('prompt') as c: put(c, 'greeting', 1)\nprint(json.dumps(read(run, 1, 60)))"
    assert data.run(script, run=unique_name) == {"greeting": [1]}


def test_a_rolled_back_change_is_no_event(data: DataClient, unique_name: str) -> None:
    script = (
        OUTBOX
        + READ
        + """
with postgres("prompt") as connection:
    try:
        with connection.transaction(): put(connection, "undone", 1); raise KeyError
    except KeyError: pass
    put(connection, "done", 1)
print(json.dumps(read(run, 1, 60)))
"""
    )
    assert data.run(script, run=unique_name) == {"done": [1]}


def test_events_have_no_gap_and_keep_their_order_through_crashes(data: DataClient, unique_name: str) -> None:
    """The worker is killed while events are written: some come twice, none is missing, none overtakes another."""
    writing = data.start(
        OUTBOX
        + """
with postgres("prompt") as connection:
    for number in range(400):
        for key in ("a", "b", "c"): put(connection, key, number)
        time.sleep(0.02)
print(json.dumps(True))
""",
        run=unique_name,
    )
    for _ in range(2):
        time.sleep(2)
        kill(data, "change-data-capture-0")
    assert data.finish(writing) is True
    found = data.run(READ + "print(json.dumps(read(run, 1200, 150)))", seconds=200, run=unique_name)
    for key in ("a", "b", "c"):
        assert sorted(set(found[key])) == list(range(400)), f"{key}: {len(set(found[key]))} of 400"
        # Seen for the first time, they come in order; a crash repeats from an earlier place, in order again.
        first = list(dict.fromkeys(found[key]))
        assert first == sorted(first)


def kill(data: DataClient, pod: str, container: str = "") -> float:
    """kill -9 of a pod's main process, as the container runtime knows it; returns the seconds until all is ready."""
    before = data.container(pod, container)
    os.kill(data.process(before["containerID"].removeprefix("containerd://")), signal.SIGKILL)
    started = time.monotonic()
    while time.monotonic() - started < 90:
        now = data.container(pod, container)
        if now["restartCount"] > before["restartCount"] and data.pod_ready(pod):
            return time.monotonic() - started
        time.sleep(0.2)
    pytest.fail(f"{pod} is not ready again: {now}")


def until_ready(data: DataClient, pod: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not data.pod_ready(pod):
        assert time.monotonic() < deadline, f"{pod} is not ready"
        time.sleep(0.5)


def test_no_acknowledged_row_is_lost_when_postgres_is_killed(data: DataClient, unique_name: str) -> None:
    writing = data.start(
        """
import psycopg
taken, number, connection = [], 0, None
deadline = time.monotonic() + 25
while time.monotonic() < deadline:
    try:
        if connection is None:
            connection = postgres("audit")
            connection.execute(f'CREATE TABLE IF NOT EXISTS "{run}" (n int PRIMARY KEY)')
        connection.execute(f'INSERT INTO "{run}" VALUES (%s)', (number,))
        taken.append(number)
    except psycopg.OperationalError:
        connection = None
        time.sleep(0.2)
    number += 1
print(json.dumps(taken))
""",
        run=unique_name,
    )
    time.sleep(5)
    assert kill(data, "postgres-0") <= 60
    taken = data.finish(writing)
    there = data.run(
        """
with postgres("audit") as connection:
    print(json.dumps([row[0] for row in connection.execute(f'SELECT n FROM "{run}"')]))
    connection.execute(f'DROP TABLE "{run}"')
""",
        run=unique_name,
    )
    assert len(taken) > 100
    assert set(taken) <= set(there)


def test_no_acknowledged_event_is_lost_when_kafka_is_killed(data: DataClient, unique_name: str) -> None:
    writing = data.start(
        """
from confluent_kafka import Producer
taken = []
producer = Producer(kafka("router", **{"acks": "all", "enable.idempotence": True, "message.timeout.ms": 90000}))
number, deadline = 0, time.monotonic() + 20
while time.monotonic() < deadline:
    note = lambda error, message: taken.append(json.loads(message.value())["n"]) if error is None else None
    try: producer.produce("usage.recorded.v1", json.dumps({"run": run, "n": number}), key=run, on_delivery=note)
    except BufferError: pass
    else: number += 1
    producer.poll(0.005)
producer.flush(90)
print(json.dumps(taken))
""",
        run=unique_name,
    )
    time.sleep(5)
    assert kill(data, "kafka-0") <= 60
    taken = data.finish(writing, 180)
    there = data.run(
        """
from confluent_kafka import Consumer
consumer = Consumer(kafka("billing", **{"group.id": f"billing.{run}", "auto.offset.reset": "earliest"}))
consumer.subscribe(["usage.recorded.v1"])
found, deadline = set(), time.monotonic() + 90
while len(found) < count and time.monotonic() < deadline:
    for message in consumer.consume(1000, timeout=1):
        value = {} if message.error() else json.loads(message.value())
        if value.get("run") == run: found.add(value["n"])
consumer.close()
print(json.dumps(sorted(found)))
""",
        run=unique_name,
        count=len(taken),
        seconds=150,
    )
    assert len(taken) > 100
    assert set(taken) <= set(there)


def test_no_acknowledged_value_is_lost_when_nats_is_killed(data: DataClient, unique_name: str) -> None:
    keep = """
import asyncio, nats
async def connected():
    async def quiet(_): pass
    return await nats.connect("nats://nats:4222", user="nats", password=secret("nats", "nats"), error_cb=quiet,
                              max_reconnect_attempts=-1, reconnect_time_wait=0.2)
"""
    writing = data.start(
        keep
        + """
async def main():
    connection = await connected()
    bucket = await connection.jetstream(timeout=2).key_value("check")
    taken, number, deadline = [], 0, time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            await bucket.put(f"{run}.{number}", str(number).encode())
            taken.append(number)
        except Exception: await asyncio.sleep(0.1)
        number += 1
        await asyncio.sleep(0.005)
    await connection.close()
    return taken
print(json.dumps(asyncio.run(main())))
""",
        run=unique_name,
    )
    time.sleep(4)
    assert kill(data, "nats-0") <= 60
    taken = data.finish(writing)
    missing = data.run(
        keep
        + """
async def main():
    connection = await connected()
    bucket, missing = await connection.jetstream().key_value("check"), []
    for number in taken:
        try: assert (await bucket.get(f"{run}.{number}")).value == str(number).encode()
        except Exception: missing.append(number)
    await connection.close()
    return missing
print(json.dumps(asyncio.run(main())))
""",
        run=unique_name,
        taken=taken,
    )
    assert len(taken) > 100
    assert missing == []


def test_no_acknowledged_object_is_lost_when_the_object_store_is_killed(data: DataClient, unique_name: str) -> None:
    bucket = """
import io, urllib3
from minio import Minio
client = Minio("object-store:7070", access_key="retriever", secret_key=secret("retriever", "objects"), secure=False,
               region="us-east-1", http_client=urllib3.PoolManager(timeout=3, retries=False))
"""
    writing = data.start(
        bucket
        + """
taken, number, deadline = [], 0, time.monotonic() + 15
while time.monotonic() < deadline:
    content = str(number).encode() * 100
    try:
        client.put_object("documents", f"{run}/{number}", io.BytesIO(content), len(content))
        taken.append(number)
    except Exception: time.sleep(0.1)
    number += 1
print(json.dumps(taken))
""",
        run=unique_name,
    )
    time.sleep(4)
    assert kill(data, "object-store-0") <= 60
    taken = data.finish(writing)
    missing = data.run(
        bucket
        + """
missing = []
for number in taken:
    if client.get_object("documents", f"{run}/{number}").read() != str(number).encode() * 100: missing.append(number)
    client.remove_object("documents", f"{run}/{number}")
print(json.dumps(missing))
""",
        run=unique_name,
        taken=taken,
    )
    assert len(taken) > 50
    assert missing == []


ROWS = """
def rows():
    with postgres("audit") as connection:
        return [list(row) for row in connection.execute(f'SELECT n, text FROM "{run}" ORDER BY n')]
"""


def test_a_dropped_table_comes_back_by_going_back_to_the_second_before(data: DataClient, unique_name: str) -> None:
    made = data.run(
        ROWS
        + """
with postgres("audit") as connection:
    connection.execute(f'CREATE TABLE "{run}" (n int PRIMARY KEY, text text)')
    for n in range(500): connection.execute(f'INSERT INTO "{run}" VALUES (%s, %s)', (n, uuid.uuid4().hex))
    moment = connection.execute("SELECT clock_timestamp()").fetchone()[0].isoformat()
print(json.dumps([rows(), moment]))
""",
        run=unique_name,
    )
    before, moment = made
    time.sleep(1.5)  # the moment is past, and what follows is after it
    data.run(
        """
with postgres("audit") as connection:
    connection.execute(f'DROP TABLE "{run}"')
    connection.execute(f'CREATE TABLE "{run}_later" (n int)')
print(json.dumps(True))
""",
        run=unique_name,
    )
    text = forge("restore", moment).stdout
    assert "is as it was at" in text
    after, later = data.run(
        ROWS
        + """
import psycopg
found = until(rows, 30, (psycopg.OperationalError,))
with postgres("audit") as connection:
    later = connection.execute("SELECT to_regclass(%s)", (f'"{run}_later"',)).fetchone()[0]
    connection.execute(f'DROP TABLE "{run}"')
print(json.dumps([found, later]))
""",
        run=unique_name,
    )
    assert _checksum(after) == _checksum(before)
    assert later is None
    # And events flow again, from where the server now is.
    script = OUTBOX + READ + "with postgres('prompt') as c: put(c, 'after', 1)\nprint(json.dumps(read(run, 1, 120)))"
    until_ready(data, "change-data-capture-0")
    assert data.run(script, 180, run=unique_name) == {"after": [1]}


def test_a_moment_before_the_first_backup_is_refused_and_changes_nothing(api: client.ApiClient) -> None:
    uid = client.CoreV1Api(api).read_namespaced_pod("postgres-0", "cogniforge").metadata.uid
    result = forge("restore", "2020-01-01T00:00:00Z", check=False)
    assert result.returncode == 1
    assert "the first backup is from" in " ".join(result.stderr.replace("│", " ").split())
    assert client.CoreV1Api(api).read_namespaced_pod("postgres-0", "cogniforge").metadata.uid == uid


def test_every_event_has_its_schema_in_the_registry(data: DataClient) -> None:
    subjects = data.run(
        """
import urllib.request
print(urllib.request.urlopen("http://schema-registry:8080/apis/ccompat/v7/subjects").read().decode())
"""
    )
    topics = {topic for intent in SERVICES.values() for topic in (*intent.produces, *intent.outbox)}
    assert set(subjects) >= {f"{topic}-value" for topic in topics}


def test_an_incompatible_schema_is_refused(data: DataClient) -> None:
    status = data.run(
        """
import httpx
url = "http://schema-registry:8080/apis/ccompat/v7/subjects/prompt.changed.v1-value/versions"
schema = json.loads(httpx.get(f"{url}/latest").json()["schema"])
schema["properties"]["data"]["required"].append("reason")
answer = httpx.post(url, json={"schemaType": "JSON", "schema": json.dumps(schema)},
                    headers={"content-type": "application/vnd.schemaregistry.v1+json"})
print(json.dumps(answer.status_code))
"""
    )
    assert status == 409


def _checksum(rows: list[Any]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
