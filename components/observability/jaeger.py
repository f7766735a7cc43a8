"""Jaeger: receives spans from the OpenTelemetry gateway, keeps them on a volume, and answers queries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import pulumi

from components.base import PlatformComponent
from components.config.base import quantity
from components.config.traces import GATEWAY, OTLP_PORT, QUERY_PORT, SERVER, Traces
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent
from components.pods import PodArgs

METRICS_PORT = 8888
_HEALTH_PORT = 13133
_STORE = "spans"
_FILE = "jaeger.json"
BATCH_SPANS = 1000
"""Spans that are written at once, after at most a second."""
MEMORY_SHARE = 60
"""Percentage of the container's memory beyond which spans are refused. The gateway sends these again."""


class JaegerArgs(TypedDict):
    """Inputs of Jaeger."""

    namespace: pulumi.Input[str]
    """Namespace of the platform."""
    image: pulumi.Input[str]
    """Image of Jaeger, by digest."""
    readers: list[str]
    """Parts of the platform's namespace that may query spans."""
    destroy_data: bool
    """Whether `destroy` may delete the spans."""
    customize: PodArgs
    """Settings of its pod."""


class JaegerResources(NamedTuple):
    """Resources of Jaeger."""

    server: DataServer


class Jaeger(PlatformComponent):
    """A server with its own storage. The OpenTelemetry gateway sends spans; only its readers may query it.

    Other queries go through the API server: `forge explain`, or `kubectl port-forward`.
    """

    def __init__(self, name: str, config: Traces, args: JaegerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("observability", name, {"storage": config.storage}, opts)
        server = DataServer(
            name,
            ServerIntent(
                name=SERVER,
                title="Jaeger",
                processes=(
                    Process(
                        SERVER,
                        args["image"],
                        config.resources,
                        (f"--config=file:/etc/{SERVER}/{_FILE}",),
                        {"otlp": OTLP_PORT, "query": QUERY_PORT, "health": _HEALTH_PORT, "metrics": METRICS_PORT},
                        ready={"http_get": {"path": "/status", "port": "health"}},
                        start_s=300,  # it replays its log after a crash
                    ),
                ),
                callers=(GATEWAY,),
                inner={"query": tuple(args["readers"]), "health": ()},
                storage=config.storage,
                metrics_port=METRICS_PORT,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args["customize"],
                destroy_data=args["destroy_data"],
                files={_FILE: json.dumps(configuration(config), indent=1)},
            ),
            self.child(),
        )
        self.ports = server.ports
        self.resources = JaegerResources(server)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": SERVER,
                "probe": "Jaeger answers GET /status",
            }
        )


def configuration(config: Traces, folder: str = DATA_MOUNT, host: str = "0.0.0.0") -> Mapping[str, Any]:
    """Jaeger's configuration. `folder`: where spans are kept; `host`: address that it listens on."""
    memory = int(quantity(config.resources.memory)) // 2**20
    kept: dict[str, Any] = {
        "directories": {"keys": f"{folder}/keys", "values": f"{folder}/values"},
        "ephemeral": False,
        "ttl": {"spans": f"{24 * config.keep_days}h"},
    }
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "batch"],
                    "exporters": ["jaeger_storage_exporter"],
                }
            },
            "telemetry": {
                "resource": {"service.name": SERVER},
                "metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": host, "port": METRICS_PORT}}}}]},
                "logs": {"level": "info", "encoding": "json"},
            },
        },
        "extensions": {
            "healthcheckv2": {"use_v2": True, "http": {"endpoint": f"{host}:{_HEALTH_PORT}"}},
            "jaeger_query": {
                # Otherwise, each query would be a trace of its own.
                "enable_tracing": False,
                "storage": {"traces": _STORE},
                "http": {"endpoint": f"{host}:{QUERY_PORT}"},
                "grpc": {"endpoint": "127.0.0.1:16685"},
            },
            "jaeger_storage": {"backends": {_STORE: {"badger": kept}}},
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"{host}:{OTLP_PORT}"}}}},
        "processors": {
            "memory_limiter": {"check_interval": "1s", "limit_mib": memory * MEMORY_SHARE // 100},
            "batch": {"send_batch_size": BATCH_SPANS, "timeout": "1s"},
        },
        "exporters": {"jaeger_storage_exporter": {"trace_storage": _STORE}},
    }
