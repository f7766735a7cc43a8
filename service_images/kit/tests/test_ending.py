"""Background tasks that follow NATS end when they are cancelled, at any moment."""

from __future__ import annotations

import asyncio
from typing import Any

from kit.following import Following

TRIES = 120


def test_a_follower_ends_when_it_is_cancelled_at_any_moment(nats_server: Any) -> None:
    nats_server.make_buckets("ending")
    nats_server.put("ending", {(f"k{number}",): {"n": number} for number in range(5)})

    async def run() -> list[float]:
        stuck: list[float] = []
        for number in range(TRIES):
            after = number * 0.0002
            task = asyncio.create_task(Following(nats_server.url, "ending", lambda _key, _value: None).run())
            await asyncio.sleep(after)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=5)
            if not done:
                stuck.append(after)
        return stuck

    assert asyncio.run(run()) == []
