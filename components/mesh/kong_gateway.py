"""The Kong gateway: Kong with its ingress controller, configured through the Gateway API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pulumi
import pulumi_kubernetes as k8s

from components import catalogue
from components.base import PlatformComponent, labels, selector
from components.delivery.chart import TIMEOUT_S
from components.inputs import checked
from components.mesh import kong
from components.mesh.gateway_args import KongGatewayArgs
from components.mesh.gateway_inputs import KongGatewayInputs
from components.mesh.kong import KongRoute, Plugin
from components.mesh.routes import GatewayIntent
from components.pods import Customization, customization, resized

CONTROLLER = "konghq.com/kic-gateway-controller"
CLASS = "kong"
_GATEWAY_API = "gateway.networking.k8s.io/v1"
_KONG = "configuration.konghq.com/v1"
_PROXY_PORT = 8443
KEYS_ASKED_BY = "cogniforge.dev/keys-asked-by"
"""Annotation of a route: which part checks the caller's key."""
_ERROR_FOLDER = "/etc/gateway-errors"
_CONNECTIONS_PER_ADDRESS = 1000
CONTROLLER_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
_SCHEDULING = ("nodeSelector", "tolerations", "affinity", "priorityClassName")
_CHART_NAMES = {"labels": "podLabels", "annotations": "podAnnotations"}
_CHART_LABELS = ("app", "release", "version")
"""Labels that the chart gives to pods, besides those of `labels`."""
# Kong inserts its message and the request id.
_ERROR_TEMPLATE = (
    '{"error": {"message": "%s", "type": "gateway_error", "param": null, "code": "gateway_error", "request_id": "%s"}}'
)


class KongGatewayResources(NamedTuple):
    """Resources of the gateway."""

    release: k8s.helm.v3.Release
    """Kong and its controller."""
    gateway: pulumi.Resource
    """Gateway API's Gateway."""
    routes: tuple[k8s.apiextensions.CustomResource, ...]
    """HTTPRoutes."""


class KongGateway(PlatformComponent):
    """Kong with TLS, API keys or OIDC, limits and routes. Its whole configuration consists of Kubernetes resources."""

    address: pulumi.Output[str]
    """Name of the Service. The cloud's load balancer points to it."""

    def __init__(self, name: str, args: KongGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._inputs = inputs = checked(KongGatewayInputs, self, name, args)
        self._intent = intent = inputs.intent_with(inputs.oidc)
        super().__init__("mesh", name, inputs.shown(), opts)
        self._errors()
        self._release = self._operator()
        routes = kong.routes(intent)
        used = {plugin.name: plugin for route in routes for plugin in route.plugins}
        shared = [self._plugin(plugin) for plugin in used.values()]
        metrics = {"plugin": "prometheus", "config": {"status_code_metrics": True, "latency_metrics": True}}
        self._make("prometheus", _KONG, "KongClusterPlugin", f"{name}-prometheus", metrics)
        if intent.oidc is None and not intent.services_ask:
            for client, key in inputs.keys.items():
                self._consumer(client, key)
        gateway = self._gateway()
        made = tuple(self._route(route, [gateway, *shared]) for route in routes)
        self.resources = KongGatewayResources(self._release, gateway, made)
        self._network_policy()
        if inputs.replicas > 1:
            self._budget()
        self.address = pulumi.Output.from_input(f"gateway-proxy:{intent.port}")
        self.finish(
            {
                "kind": "Deployment",
                "namespace": inputs.namespace,
                "name": "gateway",
                "probe": "the Deployment is available, and the Gateway and its routes are Programmed and Accepted",
            },
            address=self.address,
        )

    def _errors(self) -> None:
        k8s.core.v1.ConfigMap(
            f"{self.name}-errors",
            metadata={
                "name": "gateway-errors",
                "namespace": self._inputs.namespace,
                "labels": labels("gateway", "mesh"),
            },
            data={"error.json": _ERROR_TEMPLATE},
            opts=self.child(),
        )

    def _operator(self) -> k8s.helm.v3.Release:
        chart = catalogue.chart("kong")
        return k8s.helm.v3.Release(
            self.name,
            name="gateway",
            chart=chart.name,
            version=chart.version,
            namespace=self._inputs.namespace,
            repository_opts={"repo": chart.repository},
            values=values(self._intent, self._inputs),
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
            metadata["labels"]["global"] = "true"  # applies to all routes of this Kong
        if kind not in ("GatewayClass", "KongClusterPlugin"):
            metadata["namespace"] = self._inputs.namespace
        if version == _KONG:
            metadata["annotations"] = {"kubernetes.io/ingress.class": CLASS}
        if kind == "GatewayClass":
            metadata["annotations"] = {"konghq.com/gatewayclass-unmanaged": "true"}
        # The SDK's class for custom resources supports `spec` only; Kong's resources have top-level fields.
        return pulumi.CustomResource(
            f"kubernetes:{version}:{kind}",
            f"{self.name}-{slug}",
            {"apiVersion": version, "kind": kind, "metadata": metadata, **body},
            self.child(depends_on=[self._release, *after]),
        )

    def _plugin(self, plugin: Plugin) -> pulumi.Resource:
        slug = "-".join(filter(None, (plugin.plugin, plugin.variant)))
        return self._make(slug, _KONG, "KongPlugin", plugin.name, {"plugin": plugin.plugin, "config": plugin.config})

    def _consumer(self, client: str, key: pulumi.Input[str]) -> None:
        names: list[str] = []
        for index, form in enumerate(("bearer", "plain")):
            name = f"gateway-{client}-{form}"
            names.append(name)
            k8s.core.v1.Secret(
                f"{self.name}-{client}-{form}",
                metadata={
                    "name": name,
                    "namespace": self._inputs.namespace,
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
        certificate = [{"kind": "Secret", "name": self._inputs.certificate_secret}]
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

    def _route(self, route: KongRoute, depends_on: list[pulumi.Resource]) -> k8s.apiextensions.CustomResource:
        annotations = {
            "konghq.com/plugins": ",".join(plugin.name for plugin in route.plugins),
            "konghq.com/strip-path": "false",
            "konghq.com/protocols": "https",
            "konghq.com/request-buffering": "false",
            "konghq.com/response-buffering": "false",
            KEYS_ASKED_BY: keys_asked_by(self._intent, route),
        }
        if route.match is not kong.Match.PREFIX:
            annotations["konghq.com/regex-priority"] = str(route.priority)
        return k8s.apiextensions.CustomResource(
            f"{self.name}-route-{route.name}",
            api_version=_GATEWAY_API,
            kind="HTTPRoute",
            metadata={
                "name": route.name,
                "namespace": self._inputs.namespace,
                "labels": labels("gateway", "mesh"),
                "annotations": annotations,
            },
            spec=route_spec(self._intent, route),
            opts=self.child(depends_on=depends_on),
        )

    def _budget(self) -> None:
        """Disruption budget, our own instead of the chart's, so that policies can check it in a preview."""
        k8s.policy.v1.PodDisruptionBudget(
            self.name,
            metadata={
                "name": "gateway",
                "namespace": self._inputs.namespace,
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
                "namespace": self._inputs.namespace,
                "labels": labels("gateway", "mesh"),
            },
            spec={
                "pod_selector": {"match_labels": selector("gateway")},
                "policy_types": ["Ingress"],
                "ingress": [{"ports": [{"port": _PROXY_PORT}]}],
            },
            opts=self.child(),
        )


def keys_asked_by(intent: GatewayIntent, route: KongRoute) -> str:
    """Which part checks the caller's key: "gateway", "service", or "nobody" if Kong itself answers."""
    if route.refuses:
        return "nobody"
    return "service" if intent.services_ask else "gateway"


def route_spec(intent: GatewayIntent, route: KongRoute) -> dict[str, Any]:
    """Spec of an HTTPRoute to the backend's Service in the gateway's namespace."""
    path = {"type": route.match.value, "value": route.path}
    if route.match is kong.Match.PREFIX:
        path["value"] = route.path.rstrip("/") or "/"
    rewrite = {"type": "ReplaceFullPath", "replaceFullPath": route.path_there}
    filters = [{"type": "URLRewrite", "urlRewrite": {"path": rewrite}}]
    return {
        "parentRefs": [{"name": "gateway"}],
        "hostnames": kong.host_names(intent),
        "rules": [
            {
                "matches": [{"path": path, "method": method} for method in route.methods] or [{"path": path}],
                **({"filters": filters} if route.path_there else {}),
                "backendRefs": [{"name": route.backend.host.split(".")[0], "port": route.backend.port}],
                "timeouts": {"backendRequest": f"{route.idle_timeout_seconds}s"},
            }
        ],
    }


def environment(intent: GatewayIntent) -> dict[str, str]:
    """Environment variables of Kong, which also configure nginx: logging, response headers, limits per address."""
    rate, burst = intent.rates.per_address
    return {
        "nginx_http_client_max_body_size": str(max(route.max_body_bytes for route in intent.routes)),
        "nginx_http_client_body_buffer_size": "32k",
        "nginx_http_client_header_timeout": "10s",
        "nginx_http_client_body_timeout": "30s",
        "nginx_http_limit_req_zone": f"$binary_remote_addr zone=requests:10m rate={rate}r/s",
        "nginx_proxy_limit_req": f"zone=requests burst={burst} nodelay",
        "nginx_proxy_limit_req_status": "429",
        "nginx_http_limit_conn_zone": "$binary_remote_addr zone=connections:10m",
        "nginx_proxy_limit_conn": f"connections {_CONNECTIONS_PER_ADDRESS}",
        "nginx_proxy_limit_conn_status": "429",
        # $uri is the path without the query, which may contain keys and codes.
        "nginx_http_log_format": (
            'noquery escape=json \'{"time":"$time_iso8601","request_id":"$http_x_request_id",'
            '"method":"$request_method","path":"$uri","status":$status,"duration_s":$request_time}\''
        ),
        "proxy_access_log": "/dev/stdout noquery",
        # Messages of lower levels contain the whole request line, with the query.
        "log_level": "crit",
        "headers": "off",
        "error_template_json": f"{_ERROR_FOLDER}/error.json",
        "nginx_worker_processes": "2",
        "untrusted_lua": "off",
        "anonymous_reports": "off",
        "tracing_instrumentations": "off",
    }


def _settings(intent: GatewayIntent, pods: Customization) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, str]]:
    """Settings of pods as the chart takes them: Kong's, the controller's, and the resources of the controller.

    Raises ConfigError with everything that does not fit.
    """
    settings, taken = pods.values(camel=True), pods.taken()
    taken.check("labels", _CHART_LABELS, settings.get("labels", {}))
    added = settings.get("environment", {})
    taken.check("environment", [f"KONG_{name.upper()}" for name in environment(intent)], added)
    for name, value in added.items():
        if name != name.upper():
            limit = "in upper case with engine kong, whose chart knows no other names"
            taken.note("environment", name, value, limit, f"rename it to {name.upper()}")
    sidecars = dict(settings.get("sidecars", {}))
    limits = sidecars.pop("controller", {})
    for name in sidecars:
        taken.missing(name, ["controller"])
    taken.refuse()
    both = {name: settings[name] for name in _SCHEDULING if name in settings}
    both |= {to: settings[name] for name, to in _CHART_NAMES.items() if name in settings}
    own = {name: value for name, value in added.items() if not name.startswith("KONG_")}
    for_kong = {name.removeprefix("KONG_").lower(): added[name] for name in added if name not in own}
    gateway = {**both, **({"customEnv": own} if own else {}), **({"env": for_kong} if for_kong else {})}
    return gateway, both, limits


def values(intent: GatewayIntent, inputs: KongGatewayInputs) -> dict[str, Any]:
    """Values of the chart, which contains two charts: the controller and the proxy."""
    ours = labels("gateway", "mesh")
    security = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    gateway, controller, limits = _settings(intent, customization(inputs.customize))
    return {
        "controller": {
            **controller,
            "fullnameOverride": "gateway-controller",
            "ingressController": {
                "env": {
                    "gateway_api_controller_name": CONTROLLER,
                    "anonymous_reports": "false",
                    "kong_admin_svc": pulumi.Output.concat(inputs.namespace, "/gateway-admin"),
                    "publish_service": pulumi.Output.concat(inputs.namespace, "/gateway-proxy"),
                },
                "resources": resized(CONTROLLER_RESOURCES, limits),
            },
            "replicaCount": min(inputs.replicas, 2),
            "containerSecurityContext": security,
        },
        "gateway": {
            "fullnameOverride": "gateway",
            "replicaCount": inputs.replicas,
            # The chart sets the name. With this label, the platform's selectors match the pods.
            "nameOverride": "gateway",
            **gateway,
            "podLabels": {
                **gateway.get("podLabels", {}),
                "app.kubernetes.io/part-of": ours["app.kubernetes.io/part-of"],
            },
            "deployment": {
                "serviceAccount": {"name": "gateway"},
                "userDefinedVolumes": [{"name": "errors", "configMap": {"name": "gateway-errors"}}],
                "userDefinedVolumeMounts": [{"name": "errors", "mountPath": _ERROR_FOLDER, "readOnly": True}],
            },
            "proxy": {
                "type": "LoadBalancer",
                "http": {"enabled": False},
                "tls": {"servicePort": intent.port, "containerPort": _PROXY_PORT},
            },
            "env": {**gateway.get("env", {}), **environment(intent)},
            "resources": {
                "requests": {"cpu": inputs.cpu, "memory": inputs.memory},
                "limits": {"memory": inputs.memory},
            },
            "containerSecurityContext": security,
        },
    }
