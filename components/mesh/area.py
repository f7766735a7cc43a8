"""Area of the entrance: the gateway, and authorization in the mesh behind it."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.ai import model_server, model_serving
from components.ai.models import inside
from components.base import SCRAPER, fingerprint
from components.config.gateway import GatewayEngine
from components.config.mesh import MeshMode
from components.data.layer import DataLayer
from components.data.server import DataServer
from components.mesh import entrance, envoy, istio
from components.mesh.traffic import Traffic
from components.security import opa, policy_data
from components.security.area import SecurityArea
from components.services import making
from components.services.registry import FRONT
from components.stage import Stage


class EntranceArea:
    """The gateway, and the mesh policy if a mesh is enabled."""

    def __init__(self, stage: Stage, security: SecurityArea, data: DataLayer) -> None:
        self._stage = stage
        self.gateway = entrance.make(
            f"{stage.env}-gateway",
            stage.config,
            {
                "namespace": stage.namespace,
                "image": stage.images["gateway"],
                "key": security.key.key,
                "certificate_secret": security.certificate.secret_name,
                "certificate_version": security.certificate.authority.apply(fingerprint),
            },
            stage.options([security.opa] if security.opa else []),
        )
        stage.parts["gateway"] = self.gateway
        if stage.config.own_mesh:
            stage.parts["mesh-policy"] = self._policy({}, security.ready)
            stage.parts["mesh-traffic"] = self._traffic()
        elif stage.config.mesh.mode is not MeshMode.OFF:
            stage.parts["mesh-policy"] = self._policy({**data.servers, **security.servers}, security.ready)

    def _traffic(self) -> Traffic:
        """Rules for the sidecars of a mesh that the platform runs itself. Data servers have no sidecars."""
        config, parts = self._stage.config, self._stage.parts
        answering = [*config.around.records, *(model_server.part_name(model) for model in inside(config))]
        members = [*answering, *([policy_data.PART] if config.security.opa else [])]
        return Traffic(
            f"{self._stage.env}-mesh-traffic",
            {
                "namespace": config.cluster.namespace,
                "hosts": [host for name in members for host in parts[name].ports],
                "timeouts": dict.fromkeys(answering, config.gateway.request_timeout_seconds),
                "leaving": [name for name in members if getattr(parts[name], "leaves", False)],
            },
            self._stage.options(),
        )

    def _policy(self, servers: Mapping[str, DataServer], ready: list[pulumi.Resource]) -> istio.MeshPolicy:
        config, models = self._stage.config, inside(self._stage.config)
        return istio.MeshPolicy(
            f"{self._stage.env}-mesh-policy",
            {
                "namespace": self._stage.namespace,
                "callers": {
                    **{model_server.part_name(m): (FRONT.name,) for m in models},
                    **making.callers(config),
                    **{name: server.callers for name, server in servers.items()},
                    **({policy_data.PART: (opa.GATEWAY,)} if config.security.opa else {}),
                },
                "metrics": {
                    **{name: record.port for name, record in config.around.records.items() if record.metrics},
                    **{model_server.part_name(m): model_server.PORT for m in models if not m.serving},
                    **{model_server.part_name(m): model_serving.PORT for m in models if m.serving},
                    **{name: server.metrics_port for name, server in servers.items() if server.metrics_port},
                    **({policy_data.PART: policy_data.HTTP_PORT} if config.security.opa else {}),
                    **({"gateway": envoy.STATUS_PORT} if config.gateway.engine is GatewayEngine.ENVOY else {}),
                },
                "scraper": {"namespace": SCRAPER[0], "account": SCRAPER[1]},
                "entrance": {"service": "gateway", "port": entrance.PROXY_PORT},
            },
            self._stage.options(ready),
        )

    @property
    def url(self) -> pulumi.Output[str]:
        """URL of the API for clients: the first configured host, or the load balancer's address if it is a wildcard."""
        around = self._stage.config.around
        if around.gateway.hosts[0].startswith("*"):
            return pulumi.Output.concat("https://", self.gateway.address, "/v1")
        return self.gateway.address.apply(lambda _: f"{around.url}/v1")
