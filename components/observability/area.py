"""Area of observability: the end-to-end check, the isolation check, and monitoring."""

from __future__ import annotations

import pulumi

from components.ai.models import SIMULATOR, ModelsArea, inside
from components.base import PlatformComponent, fingerprint
from components.config.cluster import NetworkPolicies
from components.config.platform import PlatformConfig
from components.config.traces import GATEWAY
from components.config.traces import SERVER as TRACES
from components.data.layer import DataLayer
from components.mesh import entrance
from components.mesh.area import EntranceArea
from components.mesh.istiod import Istiod
from components.mesh.sidecar import PART as CONTROL
from components.observability import alerts, dashboards, grafana, log_names
from components.observability.end_to_end import EndToEndCheck
from components.observability.jaeger import Jaeger
from components.observability.log_collector import OpenTelemetryCollector
from components.observability.log_store import LogStore
from components.observability.monitoring import Monitoring, MonitoringArgs
from components.observability.prometheus import NAMESPACE as METRICS_NAMESPACE
from components.observability.prometheus import PART as PROMETHEUS
from components.observability.prometheus import Prometheus, PrometheusArgs
from components.observability.telemetry_gateway import OpenTelemetryGateway
from components.observability.watched import watched
from components.pods import PodArgs, customized
from components.security.area import SecurityArea
from components.security.isolation_check import IsolationCheck
from components.services import telemetry
from components.services.area import ServicesArea
from components.services.registry import FRONT
from components.stage import Stage

_OWN_NAMESPACES = {PROMETHEUS: METRICS_NAMESPACE, log_names.STORE: log_names.STORE_NAMESPACE}
"""Namespaces of the parts that have one of their own, and ports for nobody there but their readers."""


def isolation_images(config: PlatformConfig) -> list[str]:
    """Names of the isolation check's images."""
    return ["data-tasks"] if config.cluster.network_policies is NetworkPolicies.ENFORCED else []


class ObservabilityArea:
    """The end-to-end check, the isolation check, and monitoring."""

    def __init__(
        self,
        stage: Stage,
        security: SecurityArea,
        data: DataLayer,
        models: ModelsArea,
        services: ServicesArea,
        gateway: EntranceArea,
    ) -> None:
        self._stage, self._inside = stage, entrance.inside_hosts(stage.config)[1]
        self._pods = customized(stage.config.observability.pod, "observability.pod")
        self._readers = telemetry.readers(stage.config.around.records)
        self._end_to_end(security, [gateway.gateway, *services.parts.values()])
        servers = [*data.servers.values(), *security.servers.values(), *([security.opa] if security.opa else [])]
        traces = self._traces()
        closed: list[PlatformComponent] = [*services.parts.values(), *servers, gateway.gateway]
        closed += [*models.servers.values(), *traces]
        names = watched(stage, security, data, models)
        self._metrics(names)
        self._logs()
        closed += self._grafana(security, names)
        self._isolation(closed)

    def _traces(self) -> list[PlatformComponent]:
        """Create the gateway and the server of traces, if they are configured."""
        stage, section = self._stage, self._stage.config.observability.traces
        if section is None:
            return []
        customize = self._pods.get("customize", PodArgs())
        jaeger = stage.parts[TRACES] = Jaeger(
            f"{stage.env}-{TRACES}",
            section,
            {
                "namespace": stage.namespace,
                "image": stage.images[TRACES],
                "readers": self._with_grafana,
                "destroy_data": stage.config.data.destroy_data,
                "customize": customize,
            },
            stage.options(),
        )
        gateway = stage.parts[GATEWAY] = OpenTelemetryGateway(
            f"{stage.env}-{GATEWAY}",
            section,
            {
                "namespace": stage.config.cluster.namespace,
                "image": stage.images[log_names.IMAGE],
                "services": [*stage.config.around.records.values()],
                "others": ["gateway"] if stage.config.gateway_traces else [],
                "destroy_data": stage.config.data.destroy_data,
                "customize": customize,
            },
            stage.options(),
        )
        return [jaeger, gateway]

    @property
    def _with_grafana(self) -> list[str]:
        """Parts that query the stores of metrics and traces. Grafana would need a plugin for the log store."""
        shown = [grafana.PART] if self._stage.config.observability.grafana else []
        return [*self._readers, *shown]

    def _grafana(self, security: SecurityArea, names: frozenset[str]) -> list[PlatformComponent]:
        """Create Grafana, if it is configured, with the dashboards of the parts with these names."""
        stage, section = self._stage, self._stage.config.observability
        config = stage.config
        if section.grafana is None or security.keycloak is None or security.realm is None:
            return []
        loki = section.logs.loki if section.logs else None
        made = stage.parts[grafana.PART] = grafana.Grafana(
            f"{stage.env}-{grafana.PART}",
            section.grafana,
            {
                "namespace": stage.namespace,
                "image": stage.images[grafana.PART],
                "url": config.around.url,
                "gateway": "gateway",
                "keycloak": security.keycloak,
                "realm": security.realm,
                "prometheus": section.prometheus is not None,
                "jaeger": section.traces is not None,
                # A login for Loki is in the collector's namespace, which Grafana cannot read.
                "loki": loki if loki and not loki.secret_name else None,
                "folders": dashboards.dashboards(
                    config.cluster.namespace, config.owner, names, config.around.records.values()
                ),
                "destroy_data": config.data.destroy_data,
                "customize": self._pods.get("customize", PodArgs()),
            },
            stage.options([security.keycloak, security.realm]),
        )
        return [made]

    def _metrics(self, names: frozenset[str]) -> None:
        """Create what collects metrics and raises alerts, for the parts with these names."""
        stage, section = self._stage, self._stage.config.observability
        namespace, records = stage.config.cluster.namespace, [*stage.config.around.records.values()]
        if section.prometheus_operator:
            args: MonitoringArgs = {
                "namespace": namespace,
                "parts": names,
                "services": records,
                "owner": stage.config.owner,
            }
            stage.parts["monitoring"] = Monitoring(f"{stage.env}-monitoring", args, stage.options())
        if section.prometheus:
            collector: PrometheusArgs = {
                "namespace": namespace,
                "owner": stage.config.owner,
                "image": stage.images["prometheus"],
                "rules": alerts.rules(namespace, names, records),
                "readers": self._with_grafana,
                "destroy_data": stage.config.data.destroy_data,
                "customize": self._pods.get("customize", PodArgs()),
            }
            if isinstance(control := stage.parts.get(CONTROL), Istiod):
                collector["mesh"] = {
                    "control_namespace": namespace,
                    "image": stage.images["istio-proxy"],
                    "trusted": control.trusted_pem,
                    "authority": control.authority,
                    "certificate_minutes": stage.config.mesh.certificate_minutes,
                }
            name = f"{stage.env}-{PROMETHEUS}"
            stage.parts[PROMETHEUS] = Prometheus(name, section.prometheus, collector, stage.options())

    def _logs(self) -> None:
        """Create the store of log lines, and what collects them."""
        stage, section = self._stage, self._stage.config.observability.logs
        if section is None:
            return
        namespace, owner = stage.config.cluster.namespace, stage.config.owner
        store = stage.parts[log_names.STORE] = LogStore(
            f"{stage.env}-{log_names.STORE}",
            section,
            {
                "namespace": namespace,
                "owner": owner,
                "image": stage.images.get(log_names.STORE, ""),
                "readers": self._readers,
                "destroy_data": stage.config.data.destroy_data,
                "customize": self._pods.get("customize", PodArgs()),
            },
            stage.options(),
        )
        metrics = [stage.parts[PROMETHEUS]] if PROMETHEUS in stage.parts else []
        stage.parts[log_names.COLLECTOR] = OpenTelemetryCollector(
            f"{stage.env}-{log_names.COLLECTOR}",
            section,
            {
                "namespace": namespace,
                "namespaces": [namespace, *([METRICS_NAMESPACE] if metrics else [])],
                "owner": owner,
                "image": stage.images[log_names.IMAGE],
                "store": store,
            },
            stage.options([store, *metrics]),
        )

    def _end_to_end(self, security: SecurityArea, after: list[PlatformComponent]) -> None:
        stage = self._stage
        config, images = stage.config, [stage.images[name] for name in (FRONT.image, "gateway", SIMULATOR)]
        release = pulumi.Output.all(*images, config.model_dump_json()).apply(
            lambda values: fingerprint("\n".join(map(str, values)))
        )
        stage.parts["end-to-end"] = EndToEndCheck(
            f"{stage.env}-end-to-end",
            {
                "namespace": stage.namespace,
                "image": stage.images[FRONT.image],
                "url": f"https://{self._inside}:{config.gateway.port}/v1/chat/completions",
                "model": (inside(config) or config.models)[0].name,
                "key_secret": security.key.secret_name,
                "certificate_secret": security.certificate.secret_name,
                "release": release,
                **self._pods,
            },
            stage.options(after),
        )

    def _isolation(self, closed: list[PlatformComponent]) -> None:
        """Create the isolation check: a pod without rights must reach no port except the gateway's."""
        stage = self._stage
        names = isolation_images(stage.config)
        if not names:
            return
        stage.parts["isolation"] = IsolationCheck(
            f"{stage.env}-isolation",
            {
                "namespace": stage.namespace,
                "image": stage.images[names[0]],
                "ports": {name: list(ports) for part in closed for name, ports in part.ports.items()}
                | {
                    f"{service}.{space}": list(ports)
                    for name, space in _OWN_NAMESPACES.items()
                    if name in stage.parts
                    for service, ports in stage.parts[name].ports.items()
                },
                "control": {"host": self._inside, "port": stage.config.gateway.port},
                "release": fingerprint(stage.config.model_dump_json()),
                **self._pods,
            },
            stage.options([*closed, *(stage.parts[name] for name in _OWN_NAMESPACES if name in stage.parts)]),
        )
