"""What alerts and dashboards of an environment watch."""

from __future__ import annotations

from collections.abc import Iterator

from components.ai.models import ModelsArea
from components.config.gateway import GatewayEngine
from components.config.platform import PlatformConfig
from components.config.traces import GATEWAY
from components.config.traces import SERVER as TRACES
from components.data.layer import DataLayer
from components.mesh.sidecar import PART as MESH
from components.observability import boards
from components.observability.alerts_security import OPA
from components.observability.alerts_servers import running
from components.security.area import SecurityArea
from components.security.keycloak import PART as KEYCLOAK
from components.security.store_rights import AUDIENCE, SNAPSHOTS_ACCOUNT
from components.stage import Stage


def watched(stage: Stage, security: SecurityArea, data: DataLayer, models: ModelsArea) -> frozenset[str]:
    """Values of `part` of the alerts, boards and panels that an environment has.

    It needs the areas of security, data and models only, so that a service may receive what follows from it.
    """
    config = stage.config
    kept = [name for name in (AUDIENCE, SNAPSHOTS_ACCOUNT, OPA, MESH) if name in stage.parts]
    volumes = ["data"] if data.servers or security.servers else []
    found = (*data.parts, *config.around.records, *kept, *volumes)
    return frozenset((*found, *map(running, _own_servers(config, data)), *_besides(config, models)))


def _own_servers(config: PlatformConfig, data: DataLayer) -> Iterator[str]:
    """Servers with metrics that run in the cluster, and not as a managed service."""
    yield from (name for name, server in data.servers.items() if server.metrics_port)
    if config.gateway.engine is GatewayEngine.ENVOY:
        yield "gateway"
    if config.observability.traces:
        yield from (GATEWAY, TRACES)
    if config.own_mesh:
        yield MESH
    if config.security.keycloak:
        yield KEYCLOAK
    if config.security.opa:
        yield OPA


def _besides(config: PlatformConfig, models: ModelsArea) -> Iterator[str]:
    """What is no part of the catalogue: KServe's servers, any model servers, and GPUs."""
    serving = any(model.serving for model in config.models)
    if serving:
        yield boards.KSERVE
    if serving or models.servers:
        yield boards.MODELS
    if config.cluster.gpu_pools and config.observability.prometheus_operator:
        yield boards.GPUS
