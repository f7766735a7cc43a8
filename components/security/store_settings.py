"""OpenBao's configuration in HCL. Pure functions; it contains no secret."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

PORT, CLUSTER_PORT, SERVER_METRICS_PORT = 8200, 8201, 8210
"""Ports: clients; servers among themselves; OpenBao's own metrics, inside the pod."""
TLS_MOUNT, SEAL_MOUNT, PLUGINS_MOUNT = "/etc/tls", "/seal", "/plugins"
Body = Mapping[str, Any]
"""Fields of a block: a mapping becomes a map, a list of `Block` becomes nested blocks."""
Block = tuple[Sequence[str], Body]
"""(labels of a block, such as ("seal", "static"), its fields)."""


def first(seal: Sequence[Block], requests: Mapping[str, tuple[str, Body]]) -> str:
    """Configuration of the server that initializes the store: it sends these requests once as root.

    `requests`: (path, data) by name. The root token is revoked afterwards.
    """
    asked = [
        (("request", name), {"operation": "update", "path": path, "data": data})
        for name, (path, data) in requests.items()
    ]
    return "".join(map(_block, [*_common(seal), _storage([]), (("initialize", "platform"), {"": asked})]))


def store(seal: Sequence[Block], peers: Sequence[str]) -> str:
    """Configuration of all other starts. `peers`: URLs of the servers, which an empty server joins."""
    joins: list[Block] = [
        (("retry_join",), {"leader_api_addr": peer, "leader_ca_cert_file": f"{TLS_MOUNT}/ca.crt"}) for peer in peers
    ]
    return "".join(map(_block, [*_common(seal), _storage(joins if len(peers) > 1 else [])]))


def by_key() -> list[Block]:
    """Seal with a key file."""
    return [(("seal", "static"), {"current_key_id": "1", "current_key": f"file://{SEAL_MOUNT}/key"})]


def by_kms(region: str, key: str, plugin: Mapping[str, str]) -> list[Block]:
    """Seal with AWS KMS, through OpenBao's plugin, whose program must have the pinned digest."""
    return [
        (("plugin", "kms", "awskms"), dict(plugin)),
        (("seal", "awskms"), {"region": region, "kms_key_id": key}),
    ]


def _storage(joins: list[Block]) -> Block:
    # A server's ID and addresses come from its environment.
    return ("storage", "raft"), {"path": "/data/raft", "performance_multiplier": 1, "": joins}


def _common(seal: Sequence[Block]) -> list[Block]:
    scraped = {"metrics_only": True, "unauthenticated_metrics_access": True}
    plugins = any(words[0] == "plugin" for words, _ in seal)
    top: dict[str, Any] = {"ui": False, "log_format": "json"}
    if plugins:
        top |= {"plugin_directory": PLUGINS_MOUNT, "plugin_auto_download": True, "plugin_auto_register": True}
    return [
        ((), top),
        (
            ("listener", "tcp"),
            {
                "address": f"0.0.0.0:{PORT}",
                "cluster_address": f"0.0.0.0:{CLUSTER_PORT}",
                "tls_cert_file": f"{TLS_MOUNT}/tls.crt",
                "tls_key_file": f"{TLS_MOUNT}/tls.key",
                "tls_min_version": "tls13",
            },
        ),
        (
            ("listener", "tcp"),
            {
                "address": f"127.0.0.1:{SERVER_METRICS_PORT}",
                "cluster_address": f"127.0.0.1:{SERVER_METRICS_PORT + 1}",
                "tls_disable": True,
                "": [(("telemetry",), scraped)],
            },
        ),
        (("telemetry",), {"prometheus_retention_time": "1h", "disable_hostname": True}),
        # Pod logs. Values are hashed with a key of the store. A request that cannot be logged fails.
        (("audit", "file", "stdout"), {"options": {"file_path": "stdout"}}),
        *seal,
    ]


def _block(block: Block, depth: int = 0) -> str:
    words, fields = block
    inner = depth + 1 if words else depth
    lines = [
        _map(name, cast("Body", value), inner)
        if isinstance(value, dict)
        else f"{'  ' * inner}{name} = {json.dumps(value)}\n"
        for name, value in fields.items()
        if name
    ]
    lines += [_block(one, inner) for one in fields.get("", [])]
    if not words:
        return "".join(lines)
    head, *names = words
    shown = " ".join([head, *map(json.dumps, names)])
    pad = "  " * depth
    return f"{pad}{shown} {{\n{''.join(lines)}{pad}}}\n"


def _map(name: str, value: Body, depth: int) -> str:
    pad = "  " * depth
    inside = "".join(_field(key, one, depth + 1) for key, one in value.items())
    return f"{pad}{name} = {{\n{inside}{pad}}}\n"


def _field(name: str, value: object, depth: int) -> str:
    # Strings and lists are written as in JSON.
    return f"{'  ' * depth}{name} = {json.dumps(value)}\n"
