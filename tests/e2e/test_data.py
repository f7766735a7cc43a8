"""The data layer as the services use it: rights, events from tables, point-in-time restores."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client

from components.data.document import digest
from components.services.registry import SERVICES
from tests.e2e.conftest import forge
from tests.e2e.data_client import LABELS, OUTBOX, READ, DataClient, kill, until_ready

pytestmark = pytest.mark.e2e
OWNERS = [intent.name for intent in SERVICES.values() if intent.database]


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
user, _ = account("audit", "postgres")
try: psycopg.connect(host="postgres", port=6432, user=user, password="wrong", dbname="audit", connect_timeout=5)
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
    outcomes = []
    producer = Producer(kafka(login, **{"message.timeout.ms": 15000}))
    try:
        producer.produce("usage.recorded.v1", b"{}", on_delivery=lambda error, _: outcomes.append(str(error)))
        producer.flush(20)
    except Exception as error: outcomes.append(str(error))
    outcome[login] = outcomes
print(json.dumps(outcome))
"""
    )
    assert found["router"] == ["None"]
    assert "authorization failed" in found["billing"][0].lower()


@pytest.fixture
def kafka_task(data: DataClient, unique_name: str) -> Iterator[Callable[[Callable[[dict[str, Any]], None]], str]]:
    """Run the task that configures Kafka again with a changed definition. Returns its output."""
    made: list[str] = []
    shown = data.kubectl("get", "jobs", "-l", "app.kubernetes.io/name=kafka-task", "-o", "json").stdout
    (original,) = [json.dumps(job["spec"]["template"]) for job in json.loads(shown)["items"]]

    def run(change: Callable[[dict[str, Any]], None]) -> str:
        template = json.loads(original)
        template["metadata"] = {"labels": {**LABELS, "app.kubernetes.io/name": "kafka-task"}}
        change(template["spec"])
        made.append(f"kafka-again-{unique_name[:8]}-{len(made)}")
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": made[-1]},
            "spec": {"backoffLimit": 0, "template": template},
        }
        assert data.kubectl("create", "-f", "-", stdin=json.dumps(job)).returncode == 0
        ended = data.kubectl("wait", f"job/{made[-1]}", "--for=condition=complete", "--timeout=120s")
        said = data.kubectl("logs", f"job/{made[-1]}").stdout
        assert ended.returncode == 0, said
        return said

    yield run
    for name in made:
        data.kubectl("delete", "job", name)


def test_a_login_of_kafka_that_is_not_declared_any_more_has_nothing_left(
    data: DataClient, kafka_task: Callable[[Callable[[dict[str, Any]], None]], str]
) -> None:
    script = """
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
def seen():
    try:
        topics = AdminClient(kafka("guardrails", **{"socket.timeout.ms": 5000})).list_topics(timeout=8).topics
        return "guard.decided.v1" in topics
    except KafkaException: return False
until(lambda: seen() is wanted, 60)
print("true")
"""
    data.run(script, wanted=True)

    def without_guardrails(pod: dict[str, Any]) -> None:
        (volume,) = [v for v in pod["volumes"] if v["name"] == "documents"]
        sources = volume["projected"]["sources"]
        sources[:] = [s for s in sources if s["configMap"]["name"] != "kafka-access-guardrails"]
        names = [s["configMap"]["name"] for s in sources]
        listed = json.loads(data.kubectl("get", "configmap", *names, "-o", "json").stdout)["items"]
        digests = digest({one["metadata"]["name"]: one["data"]["document.json"] for one in listed})
        next(v for v in pod["containers"][0]["env"] if v["name"] == "DOCUMENTS")["value"] = digests

    try:
        kafka_task(without_guardrails)
        data.run(script, wanted=False)
    finally:
        kafka_task(lambda pod: None)
    data.run(script, wanted=True)


def test_an_unknown_topic_is_an_error_and_not_created(data: DataClient) -> None:
    errors = data.run(
        """
from confluent_kafka import Producer
errors = []
producer = Producer(kafka("router", **{"message.timeout.ms": 8000}))
producer.produce("no.such.topic", b"{}", on_delivery=lambda error, _: errors.append(str(error)))
producer.flush(15)
print(json.dumps(errors))
"""
    )
    assert any(word in errors[0].lower() for word in ("unknown topic", "authorization failed")), errors


def test_a_service_receives_its_own_subjects_only(data: DataClient) -> None:
    errors = data.run(
        """
import asyncio, nats
user, password = account("billing", "nats")
async def main():
    errors = []
    async def note(error): errors.append(str(error))
    connection = await nats.connect("nats://nats:4222", user=user, password=password,
                                    error_cb=note, inbox_prefix=b"_INBOX.billing")
    await connection.subscribe("router.used")
    await connection.publish("$KV.tenants.x", b"stolen")
    inbox = await connection.subscribe("_INBOX.billing.through")
    await connection.publish("_INBOX.billing.through", b"")
    await inbox.next_msg(10)  # the server has answered what was sent before
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


def test_a_row_in_the_outbox_becomes_an_event(data: DataClient, unique_name: str) -> None:
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


@pytest.mark.drill("kills")
def test_events_have_no_gap_and_keep_their_order_through_crashes(data: DataClient, unique_name: str) -> None:
    """The worker is killed while events are written: some are repeated, none is missing, and the order is kept."""
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
        # First occurrences are in order; after a crash, events repeat from an earlier position, in order again.
        first = list(dict.fromkeys(found[key]))
        assert first == sorted(first)


ROWS = """
def rows():
    with postgres("audit") as connection:
        return [list(row) for row in connection.execute(f'SELECT n, text FROM "{run}" ORDER BY n')]
"""


@pytest.mark.drill("kills")
def test_a_dropped_database_comes_back_by_going_back_to_the_second_before(data: DataClient, unique_name: str) -> None:
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
    time.sleep(1.5)  # later changes are after the restore point
    data.run(
        """
import psycopg
with postgres("user") as connection: connection.execute(f'CREATE TABLE "{run}_later" (n int)')
with postgres("postgres", port=5432) as connection:
    # A database whose changes are captured is not dropped by mistake alone: its slot has to go first.
    slots = "FROM pg_replication_slots WHERE database = 'audit'"
    def dropped():
        connection.execute(f"SELECT pg_terminate_backend(active_pid) {slots} AND active")
        connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active")
        connection.execute("DROP DATABASE audit WITH (FORCE)")
        return True
    until(dropped, 60, (psycopg.errors.ObjectInUse,))
    assert connection.execute("SELECT 1 FROM pg_database WHERE datname = 'audit'").fetchone() is None
print(json.dumps(True))
""",
        run=unique_name,
    )
    text = forge("restore", moment).stdout
    assert "is restored to" in text
    after, later = data.run(
        ROWS
        + """
import psycopg
found = until(rows, 30, (psycopg.OperationalError,))
with postgres("audit") as connection: connection.execute(f'DROP TABLE "{run}"')
with postgres("user") as connection:
    later = connection.execute("SELECT to_regclass(%s)", (f'"{run}_later"',)).fetchone()[0]
print(json.dumps([found, later]))
""",
        run=unique_name,
    )
    assert _checksum(after) == _checksum(before)
    assert later is None
    # Events continue from the server's current position.
    script = OUTBOX + READ + "with postgres('prompt') as c: put(c, 'after', 1)\nprint(json.dumps(read(run, 1, 120)))"
    until_ready(data, "change-data-capture-0")
    assert data.run(script, 180, run=unique_name) == {"after": [1]}
    # Clients connect again.
    until_ready(data, "schema-registry-0")
    assert data.kubectl("wait", "--for=condition=Available", "deployment", "--all", "--timeout=120s").returncode == 0


def test_a_moment_before_the_first_backup_is_refused_and_changes_nothing(api: client.ApiClient) -> None:
    uid = client.CoreV1Api(api).read_namespaced_pod("postgres-0", "cogniforge").metadata.uid
    result = forge("restore", "2020-01-01T00:00:00Z", check=False)
    assert result.returncode == 1
    assert "the first backup is from" in " ".join(result.stderr.split())
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
                    headers={"content-type": "application/vnd.schemaregistry.v1+json",
                             "authorization": "Bearer " + secret("schemas", "schemas")})
print(json.dumps(answer.status_code))
"""
    )
    assert status == 409


def _checksum(rows: list[Any]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


WRITES = """
import urllib.error, urllib.request
def status(method, url):
    request = urllib.request.Request(url, method=method, data=b"{}" if method == "PUT" else None)
    try: return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error: return error.code
    except OSError: return 0
print(json.dumps([
    status("PUT", "http://schema-registry:8080/apis/ccompat/v7/config"),
    status("GET", "http://change-data-capture:8083/connectors"),
    status("GET", "http://nats:8222/varz"),
]))
"""


def test_data_servers_require_a_login(data: DataClient) -> None:
    """A name of a pod that the network policies admit."""
    registry, connect, monitoring = data.run(WRITES)
    assert registry in (0, 401)
    assert connect in (0, 401)
    assert monitoring == 0


def test_an_event_schema_may_only_gain_optional_properties(data: DataClient, unique_name: str) -> None:
    """The registry alone refuses new properties, so an update of the platform could never add one."""
    said = data.run(
        """
import httpx
from tasks import registry
from tasks.common import Problem
headers = {**registry.TYPE, "authorization": "Bearer " + secret("schemas", "schemas")}
client = httpx.Client(base_url="http://schema-registry:8080/apis/ccompat/v7", headers=headers, timeout=15)
subject, properties = f"{run}-value", {"a": {"type": "string"}}
added = properties | {"b": {"type": "string", "enum": ["", "x"]}}
def put(properties, required):
    schema = {"type": "object", "required": required, "properties": properties}
    try: registry.register(client, subject, schema, "BACKWARD")
    except Problem as problem: return str(problem)
    return ""
try:
    said = [put(properties, ["a"]), put(added, ["a"]), put(added, ["a", "b"]),
            put(added | {"c": {"type": "string"}}, ["a", "c"]), put(added | {"a": {"type": "integer"}}, ["a"])]
    said.append(client.get(f"/config/{subject}").json()["compatibilityLevel"])
finally:
    for more in ("", "?permanent=true"): client.delete(f"/subjects/{subject}{more}")
print(json.dumps(said))
""",
        run=unique_name,
    )
    assert said[:2] == ["", ""]
    assert all("not backward compatible" in refusal for refusal in said[2:5]), said
    assert said[5] == "BACKWARD"
