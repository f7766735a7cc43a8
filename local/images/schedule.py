"""Schedules builds: each image after its parents, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from local.images import processes

BUILDERS = 2
"""Number of concurrent builds. Compression and compilation use one core each."""
Name = TypeVar("Name")


def run(
    parents: Mapping[Name, tuple[Name, ...]], build: Callable[[Name], None], certify: Callable[[Name], None]
) -> None:
    """Build every name after its parents, otherwise in the mapping's order.

    `certify` runs after the build of the same name, concurrently with other builds. After an error, nothing new starts;
    running builds complete, then the first error is raised. An interruption ends the programs of running builds.
    """
    processes.begin()
    waiting, built = list(parents), set[Name]()
    building: dict[Future[None], Name] = {}
    certifying: set[Future[None]] = set()
    with ThreadPoolExecutor(BUILDERS) as builders, ThreadPoolExecutor(1) as certifier:
        try:
            while waiting or building:
                for name in [n for n in waiting if built.issuperset(parents[n])]:
                    waiting.remove(name)
                    building[builders.submit(build, name)] = name
                for future in wait(building, return_when=FIRST_COMPLETED).done:
                    future.result()
                    name = building.pop(future)
                    built.add(name)
                    certifying.add(certifier.submit(certify, name))
            for future in certifying:
                future.result()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                processes.interrupt()
            builders.shutdown(wait=False, cancel_futures=True)
            certifier.shutdown(wait=False, cancel_futures=True)
            raise
