"""The OpenTelemetry gateway: it receives all spans, counts, cleans and samples them, and sends them on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components import secret_files
from components.ai.service import api_server_outlet, collector_spec, network_policy, outlet_spec
from components.base import PlatformComponent, labels
from components.config.base import quantity
from components.config.traces import GATEWAY, OTLP_GRPC_PORT, OTLP_PORT, SERVER, Traces
from components.config.web import destination
from components.data.server import DataServer, Process, ServerInputs, ServerIntent
from components.observability import trace_pipeline
from components.observability.trace_pipeline import Destination
from components.pods import PodArgs
from components.services.record import ServiceRecord

_FILE = "collector.json"
_AUTHORIZATION = "authorization"


class OpenTelemetryGatewayArgs(TypedDict):
    """Inputs of the gateway."""

    namespace: str
    """Namespace of the platform."""
    image: pulumi.Input[str]
    """Image of the collector, by digest."""
    services: Sequence[ServiceRecord]
    """Records of the services that send spans. Their objectives say which requests are slow."""
    others: Sequence[str]
    """Names of other parts that send spans."""
    destroy_data: bool
    """Whether `destroy` may delete spans that wait for their receivers."""
    customize: PodArgs
    """Settings of its pod."""


class OpenTelemetryGatewayResources(NamedTuple):
    """Resources of the gateway."""

    server: DataServer
    role: k8s.rbac.v1.Role
    """Rights to find the senders' pods."""


class OpenTelemetryGateway(PlatformComponent):
    """One collector with its queues on a volume. Services and the gateway of requests may send spans.

    It has one replica, since all spans of a request must meet in one place. While it is away, services drop spans
    after a few seconds; requests go on.
    """

    def __init__(
        self, name: str, config: Traces, args: OpenTelemetryGatewayArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("observability", name, {"queue": config.queue}, opts)
        self._meta: Any = {
            "name": GATEWAY,
            "namespace": args["namespace"],
            "labels": labels(GATEWAY, "observability"),
        }
        role = self._rights()
        self._egress(config)
        langfuse = config.langfuse
        content = trace_pipeline.configuration(
            config,
            trace_pipeline.slow_rules(args["services"]),
            destinations(config),
            trace_pipeline.Place(namespace=args["namespace"]),
        )
        server = DataServer(
            name,
            ServerIntent(
                name=GATEWAY,
                title="OpenTelemetry gateway",
                processes=(
                    Process(
                        GATEWAY,
                        args["image"],
                        config.gateway,
                        (f"--config=/etc/{GATEWAY}/{_FILE}",),
                        {
                            "otlp": OTLP_PORT,
                            "otlp-grpc": OTLP_GRPC_PORT,
                            "health": trace_pipeline.HEALTH_PORT,
                            "metrics": trace_pipeline.METRICS_PORT,
                        },
                        # Go collects garbage sooner when it comes near the limit of the container.
                        {"GOMEMLIMIT": str(int(quantity(config.gateway.memory)) * 4 // 5)},
                        {_AUTHORIZATION: (langfuse.secret_name, _AUTHORIZATION)} if langfuse else {},
                        ready={"http_get": {"path": "/", "port": "health"}},
                        asks_kubernetes=True,
                    ),
                ),
                callers=tuple(sorted((*(record.name for record in args["services"]), *args["others"]))),
                inner={"health": ()},
                storage=config.queue,
                metrics_port=trace_pipeline.METRICS_PORT,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args["customize"],
                destroy_data=args["destroy_data"],
                files={_FILE: json.dumps(content, indent=1)},
            ),
            self.child(depends_on=[role]),
        )
        self.ports = server.ports
        self.resources = OpenTelemetryGatewayResources(server, role)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": GATEWAY,
                "probe": "the OpenTelemetry gateway answers GET / of its health check",
            }
        )

    def _rights(self) -> k8s.rbac.v1.Role:
        role = k8s.rbac.v1.Role(
            f"{self.name}-pods",
            metadata=self._meta,
            rules=[{"api_groups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
            opts=self.child(),
        )
        k8s.rbac.v1.RoleBinding(
            f"{self.name}-pods",
            metadata=self._meta,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": role.metadata["name"]},
            subjects=[{"kind": "ServiceAccount", "name": GATEWAY, "namespace": self._meta["namespace"]}],
            opts=self.child(),
        )
        return role

    def _egress(self, config: Traces) -> None:
        """To the API server and Langfuse. The namespace's own policy admits connections to Jaeger."""
        api_server_outlet(
            f"{self.name}-api-server", {**self._meta, "name": f"{GATEWAY}-api-server"}, GATEWAY, self.child()
        )
        if config.langfuse:
            inside, outside = destination(config.langfuse.url)
            network_policy(
                f"{self.name}-langfuse",
                {**self._meta, "name": f"{GATEWAY}-langfuse"},
                GATEWAY,
                collector_spec(*inside) if inside else outlet_spec(outside),
                self.child(),
            )


def destinations(config: Traces) -> list[Destination]:
    """Where the gateway sends spans. The collector reads a header's file when it starts."""
    found = [Destination(SERVER, f"http://{SERVER}:{OTLP_PORT}/v1/traces")]
    if config.langfuse:
        headers = {"Authorization": f"${{file:{secret_files.path(_AUTHORIZATION)}}}"}
        found.append(Destination("langfuse", f"{config.langfuse.url}/v1/traces", headers))
    return found
