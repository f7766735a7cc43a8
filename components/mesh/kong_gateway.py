"""The gateway in the cloud: Kong with its ingress controller, configured through Gateway API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components import catalogue
from components.base import PlatformComponent, labels, selector
from components.delivery.chart import TIMEOUT_S
from components.mesh import kong
from components.mesh.routes import GatewayIntent, Route

CONTROLLER = "konghq.com/kic-gateway-controller"
CLASS = "kong"
_GATEWAY_API = "gateway.networking.k8s.io/v1"
_KONG = "configuration.konghq.com/v1"
_PROXY_PORT = 8443


class KongGatewayArgs(TypedDict):
    """Inputs of the gateway."""

    namespace: pulumi.Input[str]
    keys: dict[str, pulumi.Input[str]]
    """API keys by client; not used with OIDC."""
    certificate_secret: pulumi.Input[str]
    """A kubernetes.io/tls Secret."""
    replicas: int
    cpu: str
    """CPU request of a replica."""
    memory: str
    """Memory request and limit of a replica."""


class KongGateway(PlatformComponent):
    """Kong as the data plane of a `GatewayIntent`; everything that it does is a Kubernetes resource."""

    address: pulumi.Output[str]
    """The Service's name in the cluster; the cloud's load balancer stands in front of it."""

    def __init__(
        self, name: str, intent: GatewayIntent, args: KongGatewayArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("mesh", name, {**args, "keys": pulumi.Output.secret(args["keys"])}, opts)
        self._args, self._intent = args, intent
        self._release = self._operator()
        shared = [self._plugin(plugin.name, plugin.plugin, plugin.config) for plugin in kong.plugins(intent)]
        metrics = {"plugin": "prometheus", "config": {"status_code_metrics": True, "latency_metrics": True}}
        self._make("prometheus", _KONG, "KongClusterPlugin", f"{name}-prometheus", metrics)
        if intent.oidc is None and not intent.services_ask:
            for client, key in args["keys"].items():
                self._consumer(client, key)
        gateway = self._gateway()
        for index, route in enumerate(intent.routes):
            self._route(index, route, [gateway, *shared])
        self._network_policy()
        if args["replicas"] > 1:
            self._budget()
        self.address = pulumi.Output.from_input(f"gateway-proxy:{intent.port}")
        self.finish(
            {
                "kind": "Deployment",
                "namespace": args["namespace"],
                "name": "gateway",
                "probe": "the Deployment is available, and the Gateway and its routes are Programmed and Accepted",
            },
            address=self.address,
        )

    def _operator(self) -> k8s.helm.v3.Release:
        chart = catalogue.chart("kong")
        return k8s.helm.v3.Release(
            self.name,
            name="gateway",
            chart=chart.name,
            version=chart.version,
            namespace=self._args["namespace"],
            repository_opts={"repo": chart.repository},
            values=values(self._intent, self._args),
            atomic=True,
            cleanup_on_fail=True,
            max_history=5,
            timeout=TIMEOUT_S,
            opts=self.child(),
        )

    def _make(
        self,
        slug: str,
        version: str,
        kind: str,
        name: str,
        body: dict[str, Any],
        after: Sequence[pulumi.Resource] = (),
    ) -> pulumi.Resource:
        metadata: dict[str, Any] = {"name": name, "labels": labels("gateway", "mesh")}
        if kind == "KongClusterPlugin":
            metadata["labels"]["global"] = "true"  # for every route of this Kong
        if kind not in ("GatewayClass", "KongClusterPlugin"):
            metadata["namespace"] = self._args["namespace"]
        if version == _KONG:
            metadata["annotations"] = {"kubernetes.io/ingress.class": CLASS}
        if kind == "GatewayClass":
            metadata["annotations"] = {"konghq.com/gatewayclass-unmanaged": "true"}
        # The SDK's class for custom resources knows `spec` only; Kong's have their fields at the top.
        return pulumi.CustomResource(
            f"kubernetes:{version}:{kind}",
            f"{self.name}-{slug}",
            {"apiVersion": version, "kind": kind, "metadata": metadata, **body},
            self.child(depends_on=[self._release, *after]),
        )

    def _plugin(self, name: str, plugin: str, config: dict[str, Any], **more: Any) -> pulumi.Resource:
        return self._make(plugin, _KONG, "KongPlugin", name, {"plugin": plugin, "config": config, **more})

    def _consumer(self, client: str, key: pulumi.Input[str]) -> None:
        names: list[str] = []
        for index, form in enumerate(("bearer", "plain")):
            name = f"gateway-{client}-{form}"
            names.append(name)
            k8s.core.v1.Secret(
                f"{self.name}-{client}-{form}",
                metadata={
                    "name": name,
                    "namespace": self._args["namespace"],
                    "labels": {**labels("gateway", "mesh"), "konghq.com/credential": "key-auth"},
                },
                string_data={
                    "key": pulumi.Output.secret(key).apply(lambda value, i=index: kong.credentials(value)[i]),
                },
                opts=self.child(),
            )
        body = {"username": client, "credentials": names}
        self._make(f"client-{client}", _KONG, "KongConsumer", f"gateway-{client}", body)

    def _gateway(self) -> pulumi.Resource:
        made = self._make("class", _GATEWAY_API, "GatewayClass", CLASS, {"spec": {"controllerName": CONTROLLER}})
        certificate = [{"kind": "Secret", "name": self._args["certificate_secret"]}]
        listeners = [
            {
                "name": f"https-{index}",
                "protocol": "HTTPS",
                "port": self._intent.port,
                "hostname": host,
                "tls": {"mode": "Terminate", "certificateRefs": certificate},
                "allowedRoutes": {"namespaces": {"from": "Same"}},
            }
            for index, host in enumerate(kong.host_names(self._intent))
        ]
        spec: dict[str, Any] = {"gatewayClassName": CLASS, "listeners": listeners}
        return self._make("gateway", _GATEWAY_API, "Gateway", "gateway", {"spec": spec}, [made])

    def _route(self, index: int, route: Route, depends_on: list[pulumi.Resource]) -> None:
        name = kong.route_name(index, route)
        used = [plugin.name for plugin in kong.plugins(self._intent)]
        if route.external is not None:
            secret = {"name": route.external.secret_name, "key": "authorization"}
            patch = {"path": "/auth/header_value", "valueFrom": {"secretKeyRef": secret}}
            config = kong.ai_proxy(route.external)
            used.append(f"gateway-{name}")
            self._plugin(f"gateway-{name}", "ai-proxy", config, configPatches=[patch])
        k8s.apiextensions.CustomResource(
            f"{self.name}-route-{name}",
            api_version=_GATEWAY_API,
            kind="HTTPRoute",
            metadata={
                "name": name,
                "namespace": self._args["namespace"],
                "labels": labels("gateway", "mesh"),
                "annotations": {
                    "konghq.com/plugins": ",".join(used),
                    "konghq.com/strip-path": "false",
                    "konghq.com/protocols": "https",
                },
            },
            spec=route_spec(self._intent, route),
            opts=self.child(depends_on=depends_on),
        )

    def _budget(self) -> None:
        """Of our own, not the chart's: the policies see it before anything is deployed."""
        k8s.policy.v1.PodDisruptionBudget(
            self.name,
            metadata={
                "name": "gateway",
                "namespace": self._args["namespace"],
                "labels": labels("gateway", "mesh"),
            },
            spec={"max_unavailable": 1, "selector": {"match_labels": selector("gateway")}},
            opts=self.child(),
        )

    def _network_policy(self) -> None:
        k8s.networking.v1.NetworkPolicy(
            self.name,
            metadata={
                "name": "gateway",
                "namespace": self._args["namespace"],
                "labels": labels("gateway", "mesh"),
            },
            spec={
                "pod_selector": {"match_labels": selector("gateway")},
                "policy_types": ["Ingress"],
                "ingress": [{"ports": [{"port": _PROXY_PORT}]}],
            },
            opts=self.child(),
        )


def route_spec(intent: GatewayIntent, route: Route) -> dict[str, Any]:
    """An HTTPRoute: to the backend's Service in the gateway's namespace."""
    prefix = route.prefix.rstrip("/") or "/"
    return {
        "parentRefs": [{"name": "gateway"}],
        "hostnames": kong.host_names(intent),
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
                "backendRefs": [{"name": route.backend.host.split(".")[0], "port": route.backend.port}],
                "timeouts": {"backendRequest": f"{route.idle_timeout_seconds}s"},
            }
        ],
    }


def values(intent: GatewayIntent, args: KongGatewayArgs) -> dict[str, Any]:
    """Values of the chart, which holds two of Kong's: the controller and the data plane."""
    ours = labels("gateway", "mesh")
    security = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {
        "controller": {
            "fullnameOverride": "gateway-controller",
            "ingressController": {
                "env": {
                    "gateway_api_controller_name": CONTROLLER,
                    "anonymous_reports": "false",
                    "kong_admin_svc": pulumi.Output.concat(args["namespace"], "/gateway-admin"),
                    "publish_service": pulumi.Output.concat(args["namespace"], "/gateway-proxy"),
                },
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
            },
            "replicaCount": min(args["replicas"], 2),
            "containerSecurityContext": security,
        },
        "gateway": {
            "fullnameOverride": "gateway",
            "replicaCount": args["replicas"],
            # Its name comes from the chart; with this, the platform's selectors find the pods.
            "nameOverride": "gateway",
            "podLabels": {"app.kubernetes.io/part-of": ours["app.kubernetes.io/part-of"]},
            "deployment": {"serviceAccount": {"name": "gateway"}},
            "proxy": {
                "type": "LoadBalancer",
                "http": {"enabled": False},
                "tls": {"servicePort": intent.port, "containerPort": _PROXY_PORT},
            },
            "env": {
                "nginx_http_client_max_body_size": str(intent.max_body_bytes),
                "nginx_worker_processes": "2",
                "untrusted_lua": "off",
                "anonymous_reports": "off",
            },
            "resources": {
                "requests": {"cpu": args["cpu"], "memory": args["memory"]},
                "limits": {"memory": args["memory"]},
            },
            "containerSecurityContext": security,
        },
    }
