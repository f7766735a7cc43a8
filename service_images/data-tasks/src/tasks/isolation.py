"""Isolation check: a pod without rights tries to connect to all ports of the platform. It passes if none answers."""

from __future__ import annotations

import asyncio
import json
import os
import time

from tasks.common import Problem

PATIENCE_S = 90.0
"""Seconds that ports may still answer. Policies for a new pod take effect a little after its start."""
_CONNECT_S = 3.0
_PAUSE_S = 2.0
_AT_ONCE = 64
Target = tuple[str, int]


def main() -> None:
    """Run the check. TARGETS: ports that must be closed, by host. CONTROL: host and port that must answer."""
    targets = [(host, port) for host, ports in json.loads(os.environ["TARGETS"]).items() for port in ports]
    host, port = json.loads(os.environ["CONTROL"])
    asyncio.run(check(targets, (host, port)))


async def check(targets: list[Target], control: Target, patience_s: float = PATIENCE_S) -> None:
    """Raise Problem if ports answer, or if the network does not work, so that closed ports prove nothing."""
    deadline = time.monotonic() + patience_s
    while True:
        # The control is tested first and last: closed ports are a result only while the network works.
        working = await _answers(*control)
        unknown = await _unresolved({host for host, _ in targets})
        found = await _open(targets)
        working = working and await _answers(*control)
        if working and not unknown and not found:
            print(
                f"{len(targets)} ports of {len({h for h, _ in targets})} services are closed to a pod without rights",
                flush=True,
            )
            return
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE_S)
    if not working:
        raise Problem(f"{control[0]}:{control[1]} does not answer either, so closed ports prove nothing")
    if unknown:
        raise Problem(f"these names are not in the cluster's DNS: {', '.join(sorted(unknown))}")
    shown = ", ".join(f"{host}:{port}" for host, port in sorted(found))
    raise Problem(
        f"a pod without rights reaches {shown}. This cluster does not enforce NetworkPolicies, or a policy is missing. "
        "Use a network plugin that enforces them, or declare the risk with cluster.networkPolicies: not-enforced"
    )


async def _open(targets: list[Target]) -> list[Target]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(target: Target) -> bool:
        async with limit:
            return await _answers(*target)

    answered = await asyncio.gather(*map(one, targets))
    return [target for target, there in zip(targets, answered, strict=True) if there]


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _unresolved(hosts: set[str]) -> list[str]:
    loop = asyncio.get_running_loop()

    async def known(host: str) -> bool:
        try:
            async with asyncio.timeout(_CONNECT_S):
                return bool(await loop.getaddrinfo(host, None))
        except (OSError, TimeoutError):
            return False

    names = sorted(hosts)
    answers = await asyncio.gather(*map(known, names))
    return [host for host, there in zip(names, answers, strict=True) if not there]
