"""`python tests/perf/bench_opa.py`: what a decision of OPA adds to a request through the gateway.

Two gateways in front of one service, one that asks OPA and one that does not, get requests in turn on one connection
each, so that other work on the machine slows both. The service answers at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from components.mesh import entrance
from components.mesh.routes import Backend, GatewayIntent, Rates
from components.security import policy_bundle
from local.toolchain.tools import BUILD_TAGS, TOOLS, ToolName
from tests import opa_server
from tests.envoy_server import gateway
from tests.opa_server import configuration

WARM, ASKED = 500, 5000
KEY = "key"
LIMITS_MS = {"p50": 0.6, "p99": 2.0}


@contextmanager
def service() -> Iterator[int]:
    """A service that answers every request with the same bytes."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    port = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        nonlocal port
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        started.set()
        await asyncio.Event().wait()

    threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True).start()
    started.wait(10)
    yield port  # the thread ends with the process


def intent(backend: int, opa: int | None) -> GatewayIntent:
    """The local gateway, with all backends at one port."""
    found = entrance.intent(configuration())
    there = Backend("service", "127.0.0.1", backend)
    asked = dataclasses.replace(found.authorizer, host="127.0.0.1", port=opa) if found.authorizer and opa else None
    return dataclasses.replace(
        found,
        routes=tuple(dataclasses.replace(one, backend=there) for one in found.routes),
        documents=(),
        rates=Rates((100_000, 1_000_000), (100_000, 1_000_000)),
        authorizer=asked,
    )


async def publish(url: str) -> None:
    """Publish the key as User does."""
    connection = await nats.connect(url)
    store = await connection.jetstream().create_key_value(bucket="tenants")
    grant = {"tenant": "acme", "id": "bench", "scopes": ["inference"]}
    await store.put(f"k.{hashlib.sha256(KEY.encode()).hexdigest()}", json.dumps(grant).encode())
    await connection.close()


def ask(connection: http.client.HTTPConnection) -> tuple[int, float]:
    """The status and the milliseconds of one request."""
    begun = time.perf_counter()
    connection.request("GET", "/v1/models", headers={"host": "localhost", "authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status, 1000 * (time.perf_counter() - begun)


@dataclasses.dataclass
class Cpu:
    """CPU time of a process, which depends less on other work on the machine than the time of an answer does."""

    process: psutil.Process
    before: float = 0

    def now(self) -> float:
        """Seconds so far."""
        times = self.process.cpu_times()
        return times.user + times.system

    def microseconds(self) -> float:
        """Of each request since `before`."""
        return 1e6 * (self.now() - self.before) / ASKED


def measure(ports: dict[str, int], used: list[Cpu]) -> dict[str, list[float]]:
    """Milliseconds of all requests by gateway, in turn."""
    connections = {name: http.client.HTTPConnection("127.0.0.1", port) for name, port in ports.items()}
    found: dict[str, list[float]] = {name: [] for name in ports}
    refused = 0
    for number in range(WARM + ASKED):
        if number == WARM:
            for one in used:
                one.before = one.now()
        for name, connection in connections.items():
            status, spent = ask(connection)
            if number >= WARM:
                found[name].append(spent)
                refused += status != 200
    print(f"{refused} of {len(ports) * ASKED} requests were not answered with 200")
    return found


def server_alone() -> None:
    """Print CPU time and memory of a decision in the server, without gRPC."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / policy_bundle.FILE).write_bytes(opa_server.bundle(configuration()))
        (Path(name) / "key.pem").write_text(opa_server.key_pair("platform").public)
        command = ["go", "test", f"-tags={BUILD_TAGS}", "-run=none", "-bench=Check", "-benchtime=5000x", "."]
        environment = {**os.environ, "OPA_BENCH": name, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath"}
        folder = TOOLS[ToolName.OPA].folder
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    print(
        "".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith("Benchmark")) or done.stderr, end=""
    )


def main() -> None:
    """Print the percentiles, and what the decision adds."""
    with tempfile.TemporaryDirectory() as name, service() as backend:
        folder, other = Path(name), Path(name) / "without"
        other.mkdir()
        opa_server.put(folder, opa_server.bundle(configuration()))
        with opa_server.nats(folder) as url:
            asyncio.run(publish(url))
            with (
                opa_server.serving(folder, f"-nats={url}") as opa,
                gateway(intent(backend, opa.grpc_port), folder) as asking,
                gateway(intent(backend, None), other) as plain,
            ):
                used = Cpu(psutil.Process(opa.process.pid)), Cpu(asking.process), Cpu(plain.process)
                found = measure({"with OPA": asking.port, "without": plain.port}, list(used))
                server, envoy, alone = (one.microseconds() for one in used)
    print(f"CPU time of a request: OPA {server:.0f} us; Envoy {envoy:.0f} us, without OPA {alone:.0f} us")
    cuts = {kind: statistics.quantiles(spent, n=100) for kind, spent in found.items()}
    server_alone()
    for title, place in (("p50", 49), ("p99", 98)):
        with_opa, without = cuts["with OPA"][place], cuts["without"][place]
        added = f"added {with_opa - without:6.2f} ms, limit {LIMITS_MS[title]} ms"
        print(f"{title}: {with_opa:7.2f} ms with OPA, {without:7.2f} ms without; {added}")


if __name__ == "__main__":
    main()
