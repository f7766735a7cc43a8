"""`python3 -m retriever.migrating <from> <to>`: copies all passages from one engine to another, and proves the copy.

Can be run again: what is there is written over. The service goes on with its configured engine meanwhile; it is given
the other one once this has said that the copy is whole.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any

from retriever.engines import Engine, Point, Scope

_SAMPLES = 50
_NEAR = 5


class NotWhole(Exception):
    """What a copy lacks."""


async def migrate(source: Engine, target: Engine) -> int:
    """Copy and verify; returns how many passages there are. Raises NotWhole."""
    count, samples = 0, list[Point]()
    async for points in source.points():
        await target.upsert(points)
        count += len(points)
        if len(samples) < _SAMPLES:
            samples += points[: max(1, _SAMPLES // 10)]
    await _verify(source, target, samples)
    return count


async def _verify(source: Engine, target: Engine, samples: Iterable[Point]) -> None:
    here, there = await source.count(), await target.count()
    if there != here:
        raise NotWhole(f"{here} passages are in the old engine, {there} in the new one")
    wanted = {point.id: digest async for points in source.points() for point, digest in _digests(points)}
    found = {point.id: digest async for points in target.points() for point, digest in _digests(points)}
    if wanted != found:
        other = sorted(name for name in wanted if found.get(name) != wanted[name])
        raise NotWhole(
            f"{len(other)} passages differ, such as {other[0] if other else sorted(found.keys() - wanted)[0]}"
        )
    for point in samples:
        scope = Scope(point.tenant, point.store)
        near = await target.near(scope, point.vector, _NEAR)
        if point.id not in {hit.id for hit in near}:
            raise NotWhole(f"{point.id} is not found by its own vector")


def _digests(points: Iterable[Point]) -> Iterable[tuple[Point, Any]]:
    """All of a passage but its vector's last digits, which engines keep in their own way."""
    for point in points:
        vector = tuple(round(float(number), 4) + 0.0 for number in point.vector)
        rest = (point.tenant, point.store, point.document, point.position, point.content)
        yield point, (*rest, frozenset(point.readers), tuple(sorted(point.attributes.items())), vector)


async def run(source: str, target: str) -> int:
    """By the names of engines, as the settings reach them."""
    from kit.database import Database

    from retriever.engines.choice import engine
    from retriever.settings import RetrieverSettings

    settings = RetrieverSettings()
    database = Database(settings)
    await database.open()
    parts = [engine(settings.model_copy(update={"engine": name}), database) for name in (source, target)]
    try:
        await parts[1].prepare(settings.dimension)
        print(f"{await migrate(*parts)} passages are in {target} as they are in {source}")
    except NotWhole as error:
        print(f"the copy is not whole: {error}", file=sys.stderr)
        return 1
    finally:
        for part in parts:
            await part.close()
        await database.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(run(*sys.argv[1:3])))
