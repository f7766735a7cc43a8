"""`python3 -m retriever.migrating <from> <to>`: copies all passages to another engine, and verifies the copy.

It can be repeated; existing passages are overwritten. The service continues with its configured engine. Switch it to
the other engine once this has verified the copy.
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
    """Difference between the copy and the original."""


async def migrate(source: Engine, target: Engine) -> int:
    """Copy and verify. Returns the number of passages. Raises NotWhole."""
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
        raise NotWhole(f"the old engine has {here} passages, the new one has {there}")
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
            raise NotWhole(f"a search with the vector of {point.id} does not find it")


def _digests(points: Iterable[Point]) -> Iterable[tuple[Point, Any]]:
    """Digest of each passage, without the last digits of its vector, which engines round differently."""
    for point in points:
        vector = tuple(round(float(number), 4) + 0.0 for number in point.vector)
        rest = (point.tenant, point.store, point.document, point.position, point.content)
        yield point, (*rest, frozenset(point.readers), tuple(sorted(point.attributes.items())), vector)


async def run(source: str, target: str) -> int:
    """Migrate between two engines by name, configured by the settings."""
    from kit.database import Database

    from retriever.engines.choice import engine
    from retriever.settings import RetrieverSettings

    settings = RetrieverSettings()
    database = Database(settings)
    await database.open()
    parts = [engine(settings.model_copy(update={"engine": name}), database) for name in (source, target)]
    try:
        await parts[1].prepare(settings.dimension)
        print(f"{await migrate(*parts)} passages were copied from {source} to {target} and verified")
    except NotWhole as error:
        print(f"the copy is not complete: {error}", file=sys.stderr)
        return 1
    finally:
        for part in parts:
            await part.close()
        await database.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(run(*sys.argv[1:3])))
