"""Task for NATS: creates the key-value buckets. Then checks that JetStream stores and returns a value."""

from __future__ import annotations

import asyncio
import uuid

import nats
from nats.errors import Error as NatsError
from nats.js.api import KeyValueConfig, StorageType
from nats.js.client import JetStreamContext
from nats.js.errors import BucketNotFoundError

from tasks.common import PATIENCE_S, Problem, endpoint, password, wanted

LOGIN = "nats"
HISTORY = 8


def main() -> None:
    """Run the task."""
    try:
        asyncio.run(asyncio.wait_for(_run(), PATIENCE_S))
    except (NatsError, TimeoutError, OSError) as error:
        raise Problem(repr(error)) from None


async def _run() -> None:
    async def quiet(_: Exception) -> None:
        return

    connection = await nats.connect(
        endpoint(), user=LOGIN, password=password(LOGIN, "nats"), error_cb=quiet, max_reconnect_attempts=-1
    )
    try:
        stream = connection.jetstream(timeout=10)
        for bucket in [*wanted()["buckets"], "check"]:
            await _bucket(stream, bucket)
        await _check(stream)
    finally:
        await connection.close()


async def _bucket(stream: JetStreamContext, name: str) -> None:
    while True:
        try:
            try:
                await stream.key_value(name)
            except BucketNotFoundError:
                await stream.create_key_value(
                    KeyValueConfig(name, history=HISTORY, storage=StorageType.FILE, replicas=wanted()["replicas"])
                )
        except NatsError:  # JetStream has no leader before the servers have connected
            await asyncio.sleep(1)
            continue
        return


async def _check(stream: JetStreamContext) -> None:
    bucket, token = await stream.key_value("check"), uuid.uuid4().hex.encode()
    await bucket.put("token", token)
    if (await bucket.get("token")).value != token:
        raise Problem("the value that was read differs from the one that was stored")
