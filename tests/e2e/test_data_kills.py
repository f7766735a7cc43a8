"""Every server of the data layer is killed with SIGKILL during writes: acknowledged writes survive."""

from __future__ import annotations

import time

import pytest

from tests.e2e.data_client import DataClient, kill
from tests.e2e.write_loads import (
    CHANGES,
    CHANGES_READ,
    EVENTS,
    EVENTS_READ,
    KEYS,
    KEYS_READ,
    OBJECTS,
    OBJECTS_READ,
    ROWS,
    ROWS_READ,
    SCHEMAS,
    SCHEMAS_READ,
    writing,
)

pytestmark = pytest.mark.drill("kills")


@pytest.mark.parametrize("container", ["", "pool"], ids=["server", "pool"])
def test_no_acknowledged_row_is_lost_when_postgres_is_killed(
    data: DataClient, unique_name: str, container: str
) -> None:
    with writing(data, ROWS, unique_name) as load:
        assert kill(data, "postgres-0", container) <= 60
        load.until_more()
    taken = load.result["taken"]
    there = data.run(ROWS_READ, run=unique_name)["rows"]
    assert len(taken) > 100
    assert set(taken) <= set(there)


DISCONNECT = """
with postgres("postgres", port=5432) as connection:
    connection.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
print(json.dumps(True))
"""
"""The tasks of change data capture start anew."""


def test_no_acknowledged_event_or_change_is_lost_when_kafka_is_killed(data: DataClient, unique_name: str) -> None:
    """Kafka is stopped while change data capture starts, which orphans its tasks."""
    with writing(data, EVENTS, unique_name) as load, writing(data, CHANGES, f"{unique_name}-c", 0.05) as changes:
        data.run(DISCONNECT)
        assert kill(data, "kafka-0") <= 60
        load.until_more()
    made = changes.result["taken"]
    assert len(made) > 50
    found = data.run(CHANGES_READ, 300, run=f"{unique_name}-c", taken=made)
    assert found == {"missing": [], "overtook": []}
    taken = load.result["taken"]
    there = data.run(EVENTS_READ, run=unique_name, count=len(taken), seconds=150)
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
    with writing(data, OBJECTS, unique_name) as load:
        assert kill(data, "object-store-0") <= 60
        load.until_more()
    assert data.run(OBJECTS_READ, run=unique_name, taken=load.result["taken"]) == []
    assert len(load.result["taken"]) > 50


def test_no_acknowledged_schema_is_lost_when_the_registry_is_killed(data: DataClient, unique_name: str) -> None:
    with writing(data, SCHEMAS, unique_name) as load:
        assert kill(data, "schema-registry-0") <= 60
        load.until_more()
    missing = data.run(SCHEMAS_READ, run=unique_name, taken=load.result["taken"])
    assert missing == []
    assert load.result["longest silence, s"] <= 60


def test_a_killed_cache_takes_writes_again_within_a_minute(data: DataClient, unique_name: str) -> None:
    """The local cache keeps nothing over a restart; a persistent one is killed in test_upgrade_drill."""
    with writing(data, KEYS, unique_name) as load:
        assert kill(data, "cache-0") <= 60
        load.until_more()
    assert load.result["longest silence, s"] <= 60
    last = load.result["taken"][-1]
    assert data.run(KEYS_READ, run=unique_name, taken=[last]) == []
