"""Continuous writes during a test's actions, and functions that read the written data back.

Each script prints what was acknowledged and how long the server took nothing; `writing` runs one in a client's pod.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Any

from tests.e2e.data_client import OUTBOX, DataClient

_ACKNOWLEDGED = """
class Acknowledged:
    def __init__(self): self.taken, self.silence, self.last = [], 0.0, time.monotonic()
    def take(self, number):
        open(f"/tmp/taken-{run}", "a").write(".")
        now = time.monotonic()
        self.silence, self.last = max(self.silence, now - self.last), now
        self.taken.append(number)
    def show(self, **more): print(json.dumps({"taken": self.taken, "longest silence, s": self.silence, **more}))
acknowledged = Acknowledged()
"""
EVENTS = (
    _ACKNOWLEDGED
    + """
from confluent_kafka import KafkaException, Producer
refused, fewest, number = [], 99, 0
producer = Producer(kafka("router", **{"acks": "all", "enable.idempotence": True, "message.timeout.ms": 120000}))
def note(error, message):
    if error is None: acknowledged.take(json.loads(message.value())["n"])
    else: refused.append(error.str())
while going():
    try: producer.produce("usage.recorded.v1", json.dumps({"run": run, "n": number}), key=str(number), on_delivery=note)
    except BufferError: pass
    else: number += 1
    producer.poll(0.02)
    if number % 5 == 0:
        try: partitions = producer.list_topics("usage.recorded.v1", timeout=5).topics["usage.recorded.v1"].partitions
        except KafkaException: continue
        if partitions: fewest = min(fewest, *(len(p.isrs) for p in partitions.values()))
producer.flush(120)
acknowledged.show(**{"refused": refused, "fewest in sync": fewest})
"""
)
EVENTS_READ = """
from confluent_kafka import Consumer
consumer = Consumer(kafka("billing", **{"group.id": f"billing.{run}", "auto.offset.reset": "earliest"}))
consumer.subscribe(["usage.recorded.v1"])
found, deadline = set(), time.monotonic() + 120
while len(found) < count and time.monotonic() < deadline:
    for message in consumer.consume(1000, timeout=1):
        value = {} if message.error() else json.loads(message.value())
        if value.get("run") == run: found.add(value["n"])
consumer.close()
print(json.dumps(sorted(found)))
"""
ROWS = (
    _ACKNOWLEDGED
    + """
import psycopg
number, connection = 0, None
while going():
    try:
        if connection is None:
            connection = postgres("audit")
            connection.execute(f'CREATE TABLE IF NOT EXISTS "{run}" (n int PRIMARY KEY)')
        connection.execute(f'INSERT INTO "{run}" VALUES (%s)', (number,))
        acknowledged.take(number)
    except psycopg.OperationalError:
        connection = None
        time.sleep(0.2)
    number += 1
    time.sleep(0.01)
acknowledged.show()
"""
)
ROWS_READ = """
with postgres("audit") as connection:
    rows = [row[0] for row in connection.execute(f'SELECT n FROM "{run}"')]
    buffers = connection.execute("SHOW shared_buffers").fetchone()[0]
    connection.execute(f'DROP TABLE "{run}"')
print(json.dumps({"rows": rows, "shared_buffers": buffers}))
"""
_CACHE = """
import redis
def client():
    user, password = account("prompt", "cache")
    return redis.Redis("cache", username=user, password=password, socket_timeout=3)
"""
KEYS = (
    _ACKNOWLEDGED
    + _CACHE
    + """
server, number = client(), 0
while going():
    try:
        if server.set(f"prompt:{run}:{number}", number, ex=600): acknowledged.take(number)
    except redis.AuthenticationError:
        time.sleep(0.1)
        forget("prompt", "cache")
        try: server = client()
        except OSError: pass  # the store's own connection to the cache is new, too
    except redis.RedisError: time.sleep(0.1)
    number += 1
    time.sleep(0.002)
acknowledged.show()
"""
)
KEYS_READ = (
    _CACHE
    + """
found = client().mget([f"prompt:{run}:{number}" for number in taken])
print(json.dumps([number for number, value in zip(taken, found) if value != str(number).encode()]))
"""
)
_REGISTRY = """
import urllib.error, urllib.request
def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/vnd.schemaregistry.v1+json",
               "authorization": "Bearer " + secret("schemas", "schemas")}
    url = f"http://schema-registry:8080/apis/ccompat/v7{path}"
    request = urllib.request.Request(url, data, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer: return json.load(answer)
def schema(number): return json.dumps({"type": "object", "properties": {f"p{number}": {"type": "string"}}})
"""
SCHEMAS = (
    _ACKNOWLEDGED
    + _REGISTRY
    + """
number = 0
while going():
    try:
        ask("POST", f"/subjects/{run}-{number}/versions", {"schemaType": "JSON", "schema": schema(number)})
        acknowledged.take(number)
    except OSError: time.sleep(0.2)
    number += 1
    time.sleep(pause)
acknowledged.show()
"""
)
SCHEMAS_READ = (
    _REGISTRY
    + """
missing = []
for number in taken:
    try: kept = ask("GET", f"/subjects/{run}-{number}/versions/latest")["schema"]
    except urllib.error.HTTPError: kept = ""
    if kept != schema(number): missing.append(number)
for subject in ask("GET", "/subjects"):
    if subject.startswith(f"{run}-"):
        ask("DELETE", f"/subjects/{subject}")
        ask("DELETE", f"/subjects/{subject}?permanent=true")
print(json.dumps(missing))
"""
)
_OBJECTS = """
import io, urllib3
from minio import Minio
from minio.error import S3Error
client = Minio("object-store:7070", access_key="retriever", secret_key=secret("retriever", "objects"), secure=False,
               region="us-east-1", http_client=urllib3.PoolManager(timeout=3, retries=False))
def content(number): return str(number).encode() * 100
"""
OBJECTS = (
    _ACKNOWLEDGED
    + _OBJECTS
    + """
number = 0
while going():
    try:
        client.put_object("documents", f"{run}/{number}", io.BytesIO(content(number)), len(content(number)),
                          metadata={"number": str(number)})
        acknowledged.take(number)
    except (S3Error, urllib3.exceptions.HTTPError): time.sleep(0.1)
    number += 1
    time.sleep(pause)
acknowledged.show()
"""
)
OBJECTS_READ = (
    _OBJECTS
    + """
missing = []
for number in taken:
    try: kept = client.get_object("documents", f"{run}/{number}")
    except S3Error: missing.append(number); continue
    if kept.read() != content(number) or kept.headers["x-amz-meta-number"] != str(number): missing.append(number)
    client.remove_object("documents", f"{run}/{number}")
print(json.dumps(missing))
"""
)
CHANGES = (
    _ACKNOWLEDGED
    + OUTBOX
    + """
import psycopg
number, connection = 0, None
while going():
    try:
        if connection is None: connection = postgres("prompt")
        put(connection, f"key-{number % 3}", number)
        acknowledged.take(number)
    except psycopg.OperationalError:
        connection = None
        time.sleep(0.2)
    number += 1
    time.sleep(pause)
acknowledged.show()
"""
)
CHANGES_READ = """
from confluent_kafka import Consumer
consumer = Consumer(kafka("audit", **{"group.id": f"audit.{run}", "auto.offset.reset": "earliest"}))
consumer.subscribe(["prompt.changed.v1"])
missing, first, deadline = set(taken), {}, time.monotonic() + 120
while missing and time.monotonic() < deadline:
    for message in consumer.consume(500, timeout=1):
        event = {"tenant": ""} if message.error() else json.loads(message.value())["data"]
        if event["tenant"] != run: continue
        seen = first.setdefault(message.key().decode(), [])
        if event["version"] not in seen: seen.append(event["version"])
        missing.discard(event["version"])
consumer.close()
overtook = [key for key, seen in first.items() if seen != sorted(seen)]
print(json.dumps({"missing": sorted(missing), "overtook": overtook}))
"""
"""(changes without an event, keys whose events are out of order), without repeated events."""
_WAIT = """
import os, sys, time
file, count, deadline = sys.argv[1], int(sys.argv[2]), time.monotonic() + 60
def size(): return os.path.getsize(file) if os.path.exists(file) else 0
wanted = size() + count
while size() < wanted:
    if time.monotonic() > deadline: sys.exit(1)
    time.sleep(0.1)
"""


@dataclass
class Load:
    """A script that writes."""

    client: DataClient
    run: str
    process: Popen[str]
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    """Final output of the load."""

    def until_more(self, count: int = 60) -> None:
        """Wait for this many more acknowledged writes."""
        found = self.client.exec("python3", "-c", _WAIT, f"/tmp/taken-{self.run}", str(count))
        assert found.returncode == 0, f"{count} writes were not acknowledged within a minute"


@contextlib.contextmanager
def writing(client: DataClient, script: str, run: str, pause: float = 0.02) -> Iterator[Load]:
    """Run loads from their first acknowledged writes until the end of the block; some pause between writes (s)."""
    load = Load(client, run, client.start(script, run=run, pause=pause))
    try:
        load.until_more()
        yield load
    finally:
        client.exec("touch", f"/tmp/stop-{run}")
        load.result = client.finish(load.process, 180)
