"""A real Weaviate on loopback that requires a key."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from service_images.serving import served

STARTS_S = 60


@dataclass(frozen=True)
class WeaviateServer:
    """A running, empty server."""

    url: str
    key: str


@contextlib.contextmanager
def running(folder: Path) -> Iterator[WeaviateServer]:
    """A server with its data in a folder, running during the block."""
    port, key = free_port(), secrets.token_urlsafe(16)
    own = {
        "PERSISTENCE_DATA_PATH": str(folder / "data"),
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": key,
        "AUTHENTICATION_APIKEY_USERS": "retriever",
        "DEFAULT_VECTORIZER_MODULE": "none",
        "DISABLE_TELEMETRY": "true",
        "GO_PROFILING_DISABLE": "true",
        "LOG_LEVEL": "warning",
        "CLUSTER_HOSTNAME": "one",
        "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
        "RAFT_BOOTSTRAP_EXPECT": "1",
        **{
            name: str(free_port())
            for name in (
                "CLUSTER_GOSSIP_BIND_PORT",
                "CLUSTER_DATA_BIND_PORT",
                "RAFT_PORT",
                "RAFT_INTERNAL_RPC_PORT",
                "GRPC_PORT",
            )
        },
    }
    server = WeaviateServer(f"http://127.0.0.1:{port}", key)
    command = [builder.resolve(ToolName.WEAVIATE), "--host", "127.0.0.1", "--port", str(port), "--scheme", "http"]
    with served(command, own, f"{server.url}/v1/.well-known/ready", STARTS_S):
        yield server
