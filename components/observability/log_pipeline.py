"""Configuration of the collector of log lines: what it reads, what it adds and removes, and where it sends lines.

Only the node says where a line comes from: namespace, pod and container are in the path of the file, and the service is
a label of the pod. From the line itself come the level, the trace and the tenant, each only in its exact form. The text
stays whole, so other fields of a line can be searched, but never pose as one of these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.observability import collector_queue
from components.observability.log_names import NODE_FOLDER
from components.observability.redaction import PATTERNS

HEALTH_PORT = 13133
STATE = "/var/lib/collector"
"""Folder of the collector's positions in files, and of its queue."""
FEATURE_GATES = "stanza.synchronousLogEmitter"
"""Without it, positions are stored up to 100 ms before their lines are queued, and a killed collector loses these."""
LINE_BYTES = 128 * 1024
"""A longer line is stored in pieces of this size. The store takes at most 256 KiB a line."""
QUEUE_BYTES = 128 * 1024**2
"""Of lines that wait for the store. When it is full, the collector stops reading; the files on the node remain."""
STATE_VOLUME = "512Mi"
"""The queue, its positions, and the room that its database needs while it is compacted."""

SERVICE, NAMESPACE, POD, CONTAINER = "service.name", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name"
LEVEL, TENANT, STREAM = "level", "tenant", "log.iostream"
TRACE = "trace_id"
"""Names of fields in a store."""
LEVELS = ("debug", "info", "warning", "error", "critical")
_LEVEL = f"^(?i:{'|'.join(LEVELS)})$"
_TENANT = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
_TRACE = "^[0-9a-f]{32}$"
_OBJECT = r"^\s*[{]"


@dataclass(frozen=True)
class Destination:
    """Where lines go, by OTLP over HTTP."""

    url: str
    """URL that receives OTLP's requests for logs."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def configuration(
    destination: Destination,
    namespaces: Sequence[str],
    *,
    folder: str = NODE_FOLDER,
    state: str = STATE,
    kubernetes: bool = True,
    health: str = f"0.0.0.0:{HEALTH_PORT}",
) -> dict[str, Any]:
    """Content of the collector's configuration file for pods of these namespaces.

    `kubernetes`: whether the API server tells which service a pod belongs to; otherwise it is the container's name.
    """
    places = {f"k8sattributes/{name}": _attributes(name) for name in namespaces} if kubernetes else {}
    return {
        "extensions": {
            "health_check": {"endpoint": health},
            "file_storage": collector_queue.storage(state),
        },
        "receivers": {"filelog": _files(folder, namespaces)},
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_percentage": 70, "spike_limit_percentage": 20},
            **places,
            "transform": {"error_mode": "silent", "log_statements": _statements()},
        },
        "exporters": {"otlphttp": _store(destination)},
        "service": {
            "extensions": ["health_check", "file_storage"],
            "telemetry": {"logs": {"encoding": "json"}, "metrics": {"level": "none"}},
            "pipelines": {
                "logs": {
                    "receivers": ["filelog"],
                    "processors": ["memory_limiter", *places, "transform"],
                    "exporters": ["otlphttp"],
                }
            },
        },
    }


def _files(folder: str, namespaces: Sequence[str]) -> dict[str, Any]:
    return {
        "include": [f"{folder}/{name}_*/*/*.log" for name in namespaces],
        "include_file_path": True,
        "include_file_name": False,
        "start_at": "beginning",
        "poll_interval": "500ms",
        "storage": "file_storage",
        "retry_on_failure": {"enabled": True, "max_elapsed_time": "0s"},  # without end, rather than skip lines
        # containerd splits lines at 16 KiB. This operator joins them, and reads time, stream, and the file's path.
        "operators": [
            {"type": "container", "format": "containerd", "max_log_size": LINE_BYTES},
            {"type": "filter", "expr": 'body == ""'},  # an empty line says nothing
        ],
    }


def _attributes(namespace: str) -> dict[str, Any]:
    """Labels of the node's pods in a namespace, so that a Role of each namespace is enough."""
    return {
        "auth_type": "serviceAccount",
        "filter": {"node_from_env_var": "NODE_NAME", "namespace": namespace},
        "wait_for_metadata": True,
        "wait_for_metadata_timeout": "30s",
        "extract": {
            "metadata": [POD],
            "labels": [{"tag_name": SERVICE, "key": "app.kubernetes.io/name", "from": "pod"}],
        },
        "pod_association": [{"sources": [{"from": "resource_attribute", "name": "k8s.pod.uid"}]}],
    }


def _literal(text: str) -> str:
    """A text in OTTL. The collector reads `$$` in its configuration as `$`."""
    return json.dumps(text, ensure_ascii=False).replace("$", "$$")


def _has(value: str, pattern: str) -> str:
    """Condition that a field of the line is a text of this form."""
    return f"IsString({value}) and IsMatch({value}, {_literal(pattern)})"


def _statements() -> list[str]:
    """What happens to each line, in OTTL."""
    kept = ", ".join(_literal(name) for name in (SERVICE, NAMESPACE, POD, CONTAINER))
    level, tenant, trace = (f'log.cache["{name}"]' for name in ("level", "tenant", "trace_id"))
    return [
        f'set(resource.attributes["{SERVICE}"], resource.attributes["{CONTAINER}"]) '
        f'where resource.attributes["{SERVICE}"] == nil',
        f"keep_keys(resource.attributes, [{kept}])",
        f"keep_keys(log.attributes, [{_literal(STREAM)}])",
        *(
            f"replace_pattern(log.body, {_literal(pattern)}, {_literal(replacement)})"
            for pattern, replacement in PATTERNS
        ),
        f"set(log.cache, ParseJSON(log.body)) where IsMatch(log.body, {_literal(_OBJECT)})",
        f'set(log.attributes["{LEVEL}"], ConvertCase({level}, "lower")) where {_has(level, _LEVEL)}',
        f'set(log.attributes["{TENANT}"], {tenant}) where {_has(tenant, _TENANT)}',
        f"set(log.trace_id.string, {trace}) where {_has(trace, _TRACE)}",
    ]


def _store(destination: Destination) -> dict[str, Any]:
    return {
        "logs_endpoint": destination.url,
        **collector_queue.sending(destination.headers, QUEUE_BYTES, waits=True),
    }
