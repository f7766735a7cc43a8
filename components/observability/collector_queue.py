"""The queue on disk of an OpenTelemetry Collector, and how it sends to a server that may be away. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BATCH_BYTES = 1024**2


def storage(folder: str) -> dict[str, Any]:
    """Settings of the extension file_storage, which keeps queues in a folder."""
    return {
        "directory": folder,
        "create_directory": True,
        "recreate": True,  # a database that is damaged is set aside, and the collector begins anew
        "compaction": {"on_start": True, "on_rebound": True, "directory": folder, "cleanup_on_start": True},
    }


def sending(headers: Mapping[str, str], queue_bytes: int, *, waits: bool) -> dict[str, Any]:
    """Settings of an OTLP exporter besides its address. `waits`: a full queue makes senders wait, and drops nothing."""
    return {
        "headers": dict(headers),
        "timeout": "10s",
        "retry_on_failure": {
            "enabled": True,
            "initial_interval": "1s",
            "max_interval": "5s",
            "max_elapsed_time": "0s",  # without end: the queue keeps what it has until the server is back
        },
        "sending_queue": {
            "enabled": True,
            "storage": "file_storage",
            "sizer": "bytes",
            "queue_size": queue_bytes,
            "block_on_overflow": waits,
            "num_consumers": 2,
            "batch": {
                "sizer": "bytes",
                "flush_timeout": "500ms",
                "min_size": _BATCH_BYTES // 4,
                "max_size": _BATCH_BYTES,
            },
        },
    }
