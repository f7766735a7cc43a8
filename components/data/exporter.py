"""Sidecars that export a data server's statistics as Prometheus metrics.

Redis' exporter scrapes any server that a query names (`/scrape?target=`). It therefore listens on loopback, behind a
proxy (`metrics-door`) that passes only `/metrics` without a query. The other exporters scrape their own server only.

Exporters have a liveness probe but no readiness probe: a failed exporter must not take its server out of service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pulumi

from components.config.base import Resources
from components.data.server import Process

IMAGE = "exporters"
NAME = "metrics"
POSTGRES_PORT, CACHE_PORT, NATS_PORT, STATSD_PORT = 9187, 9121, 7777, 9102
STATSD = 9125
"""Port for statsd lines, inside the pod."""
BEHIND = 10_000
"""Offset of an exporter's own port from that of the proxy in front of it."""
_RESOURCES = Resources(cpu="10m", memory="48Mi")


def postgres(image: pulumi.Input[str], sockets: str, user: str) -> Process:
    """Exporter for PostgreSQL. It connects through the server's Unix socket, as `user`."""
    return _process(
        image,
        ("/usr/bin/prometheus-postgres-exporter", f"--web.listen-address=:{POSTGRES_PORT}"),
        POSTGRES_PORT,
        {"DATA_SOURCE_NAME": f"host={sockets} user={user} dbname=postgres sslmode=disable"},
    )


def cache(image: pulumi.Input[str], port: int, user: str, passwords: str) -> Process:
    """Exporter for Redis or Valkey. `user` may read statistics, but no keys. `passwords`: file of `cache_passwords`."""
    inner = f"127.0.0.1:{CACHE_PORT + BEHIND}"
    door = ("metrics-door", f"-listen=:{CACHE_PORT}", f"-metrics=http://{inner}/metrics", "--")
    flags = (f"-web.listen-address={inner}", "-config-command=-", f"-redis.password-file={passwords}")
    reached = {"REDIS_ADDR": f"redis://127.0.0.1:{port}", "REDIS_USER": user}
    return _process(image, (*door, "/usr/bin/prometheus-redis-exporter", *flags), CACHE_PORT, reached)


def cache_passwords(port: int, user: str, password: str) -> str:
    """Password file that is valid for the server in the same pod only, even if a query names another server."""
    return json.dumps({f"redis://{name}127.0.0.1:{port}": password for name in ("", f"{user}@")})


def nats(image: pulumi.Input[str], monitor_port: int) -> Process:
    """Exporter for NATS. It reads the server's monitoring port."""
    flags = ("-varz", "-connz", "-jsz=all", "-healthz", "-addr=0.0.0.0", f"-port={NATS_PORT}")
    return _process(image, ("nats-exporter", *flags, f"http://127.0.0.1:{monitor_port}"), NATS_PORT)


def statsd(image: pulumi.Input[str]) -> Process:
    """Exporter for a server that sends statsd lines."""
    flags = (f"--statsd.listen-udp=127.0.0.1:{STATSD}", "--statsd.listen-tcp=", f"--web.listen-address=:{STATSD_PORT}")
    return _process(image, ("statsd-exporter", *flags), STATSD_PORT)


def _process(
    image: pulumi.Input[str],
    arguments: tuple[str, ...],
    port: int,
    environment: Mapping[str, pulumi.Input[str]] | None = None,
    secrets: Mapping[str, tuple[pulumi.Input[str], str]] | None = None,
) -> Process:
    alive = {"tcp_socket": {"port": "metrics"}}
    ports = {"metrics": port}
    return Process(NAME, image, _RESOURCES, arguments, ports, environment or {}, secrets or {}, alive=alive)
