"""Istio's sidecar, as Istio's injector would render it, in the pods of the platform's Deployments.

No webhook injects the sidecar: it is part of the rendered Deployments, so a preview shows the sidecar, and a cluster
starts without a pod that has to be there first. Source of the container's shape: Istio 1.31,
manifests/charts/istio-control/istio-discovery/files/injection-template.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.ai.service import restricted
from components.base import PART_OF
from components.config.base import Resources
from components.secret_files import projected

PART = "istiod"
CONTROL_PORT = 15012
"""TCP port of istiod for configuration and certificates, with TLS."""
CONTAINER = "istio-proxy"
"""Name by which Istio's CNI plugin knows a pod with a sidecar."""
ACCOUNT = 1337
"""User and group of the sidecar, whose own connections are not captured."""
AGENT_PORT, HEALTH_PORT = 15020, 15021
"""TCP ports of the agent, for probes of the other containers, and of the sidecar's own health check."""
ROOT_MAP = "istio-ca-root-cert"
"""ConfigMap with the certificate of the mesh's authority, as Istio calls it."""
MEMBER = {"security.istio.io/tlsMode": "istio"}
"""Label of pods that have a sidecar."""
TRUST_DOMAIN = "cluster.local"
TOKEN_FOLDER, ROOT_FOLDER = "/var/run/secrets/tokens", "/var/run/secrets/istio"
"""Folders in which Istio's agent looks for its token, and for the certificate of the mesh's authority."""
STATE_FOLDER = "/etc/istio/proxy"
"""Folder of the agent's own files."""
AGENT_FIELDS: Mapping[str, str] = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "INSTANCE_IP": "status.podIP",
    "HOST_IP": "status.hostIP",
    "SERVICE_ACCOUNT": "spec.serviceAccountName",
}
"""Environment variables of Istio's agent from fields of its pod."""
AUTHORITY = "cogniforge.dev/authority"
"""Annotation of pods that changes with the mesh's authorities."""
_DNS_PORT = 53
_DEPLOYMENT = "kubernetes:apps/v1:Deployment"
_SERVICE = "kubernetes:core/v1:Service"
_PROBES = {"startup_probe": "startupz", "readiness_probe": "readyz", "liveness_probe": "livez"}
_OPTIONS = {"traffic.sidecar.istio.io/excludeOutboundPorts": f"{_DNS_PORT},{AGENT_PORT}"}
_TOKEN = {"path": "istio-token", "expiration_seconds": 43_200, "audience": "istio-ca"}


@dataclass(frozen=True)
class Sidecar:
    """The sidecar of all pods of a platform."""

    namespace: str
    image: pulumi.Input[str]
    """Image with Istio's agent and Envoy."""
    resources: Resources
    certificate_minutes: int
    """Validity of the workload's certificate."""
    authority: pulumi.Input[str] = ""
    """A value that changes with the mesh's authorities. The pods restart then, and get certificates of the new ones."""
    open_ports: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    """TCP ports of a part that are not captured: clients outside the mesh connect to these."""

    def transformation(self, given: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        """Add the sidecar to a Deployment, and a protocol to the ports of a Service. For `ResourceOptions`."""
        inputs: Any = given.props
        if given.type_ == _DEPLOYMENT:
            spec = {**inputs["spec"], "template": self.added(inputs["spec"]["template"])}
        elif given.type_ == _SERVICE:
            spec = {**inputs["spec"], "ports": [{"app_protocol": "tcp", **port} for port in inputs["spec"]["ports"]]}
        else:
            return None
        return pulumi.ResourceTransformationResult({**inputs, "spec": spec}, given.opts)

    def added(self, template: Mapping[str, Any]) -> dict[str, Any]:
        """A pod template with the sidecar."""
        metadata, pod = template["metadata"], template["spec"]
        part: str = metadata["labels"]["app.kubernetes.io/name"]
        names = {"service.istio.io/canonical-name": part, "service.istio.io/canonical-revision": "latest"}
        containers, probed = list[Any](), dict[str, Any]()
        for container in pod["containers"]:
            changed, more = _redirected(container)
            containers.append(changed)
            probed |= more
        options = {"sidecar.istio.io/status": "{}", AUTHORITY: self.authority, **_OPTIONS}
        if ports := self.open_ports.get(part):
            options["traffic.sidecar.istio.io/excludeInboundPorts"] = ",".join(map(str, ports))
        return {
            **template,
            "metadata": {
                **metadata,
                "labels": {**metadata["labels"], **MEMBER, **names},
                "annotations": {**metadata.get("annotations", {}), **options},
            },
            "spec": {
                **pod,
                "init_containers": [
                    self._validation(),
                    self._proxy(part, containers, probed),
                    *pod.get("init_containers", []),
                ],
                "containers": containers,
                "volumes": [*pod.get("volumes", []), *_volumes()],
            },
        }

    def _container(self, name: str, arguments: Sequence[str]) -> dict[str, Any]:
        size = self.resources
        return {
            "name": name,
            "image": self.image,
            "args": list(arguments),
            "resources": {
                "requests": {"cpu": size.cpu, "memory": size.memory},
                "limits": {"memory": size.memory},
            },
            "security_context": {**restricted(), "run_as_user": ACCOUNT, "run_as_group": ACCOUNT},
        }

    def _validation(self) -> dict[str, Any]:
        """Checks that the node captures the pod's traffic. A pod that would be open in clear does not start."""
        ports = ("-p", "15001", "-z", "15006", "-u", str(ACCOUNT), "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*")
        checks = ("-d", f"15090,{HEALTH_PORT},{AGENT_PORT}", "--run-validation", "--skip-rule-apply")
        return self._container("istio-validation", ("istio-iptables", *ports, *checks))

    def _proxy(self, part: str, containers: Sequence[Any], probed: Mapping[str, Any]) -> dict[str, Any]:
        """The sidecar. As a native sidecar it starts before all other containers, and ends after them."""
        ports = [
            {"containerPort": port["container_port"], "name": port["name"]}
            for container in containers
            for port in container.get("ports", [])
        ]
        config = {
            "concurrency": 1,
            "terminationDrainDuration": "1s",
            # Envoy's own statistics of these; this Envoy has no filter for Istio's.
            "proxyStatsMatcher": {"inclusionPrefixes": ["cluster.", "http.", "listener.", "server."]},
        }
        environment = {
            **agent_environment(self.namespace, self.certificate_minutes, config),
            "ISTIO_META_MESH_ID": TRUST_DOMAIN,
            "ISTIO_META_INTERCEPTION_MODE": "REDIRECT",
            "ISTIO_META_WORKLOAD_NAME": part,
            "ISTIO_META_POD_PORTS": json.dumps(ports),
            "ISTIO_META_APP_CONTAINERS": ",".join(container["name"] for container in containers),
            **({"ISTIO_KUBE_APP_PROBERS": json.dumps(probed)} if probed else {}),
        }
        made = self._container(
            CONTAINER,
            (
                *("proxy", "sidecar", "--domain", f"$(POD_NAMESPACE).svc.{TRUST_DOMAIN}"),
                *("--proxyLogLevel=warning", "--proxyComponentLogLevel=misc:error", "--log_output_level=all:warn"),
            ),
        )
        health = {"http_get": {"path": "/healthz/ready", "port": HEALTH_PORT}, "timeout_seconds": 3}
        return {
            **made,
            "restart_policy": "Always",
            "env": variables(environment, {**AGENT_FIELDS, "ISTIO_META_NODE_NAME": "spec.nodeName"}),
            "startup_probe": {**health, "period_seconds": 1, "failure_threshold": 180},
            "readiness_probe": {**health, "period_seconds": 5, "failure_threshold": 4},
            "volume_mounts": [
                {"name": f"istio-{name}", "mount_path": path, **({"read_only": True} if fixed else {})}
                for name, path, fixed in _MOUNTS
            ],
        }


def agent_environment(namespace: str, certificate_minutes: int, config: Mapping[str, Any]) -> dict[str, str]:
    """Environment of Istio's agent. `namespace`: of istiod; `config`: fields of Istio's ProxyConfig."""
    control = f"{PART}.{namespace}.svc:{CONTROL_PORT}"
    return {
        "PILOT_CERT_PROVIDER": "istiod",
        "CA_ADDR": control,
        "PROXY_CONFIG": json.dumps({"discoveryAddress": control, **config}),
        "SECRET_TTL": f"{certificate_minutes}m",
        "ECC_SIGNATURE_ALGORITHM": "ECDSA",
        "TRUST_DOMAIN": TRUST_DOMAIN,
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
    }


def variables(environment: Mapping[str, str], fields: Mapping[str, str]) -> list[dict[str, Any]]:
    """Environment variables of a container, from values and from fields of the pod."""
    return [
        *({"name": name, "value": value} for name, value in environment.items()),
        *({"name": n, "value_from": {"field_ref": {"field_path": path}}} for n, path in fields.items()),
    ]


_MOUNTS = (
    ("data", "/var/lib/istio/data", False),
    ("envoy", STATE_FOLDER, False),
    ("workload-socket", "/var/run/secrets/workload-spiffe-uds", False),
    ("credential-socket", "/var/run/secrets/credential-uds", False),
    ("workload-certs", "/var/run/secrets/workload-spiffe-credentials", False),
    ("token", TOKEN_FOLDER, True),
    ("ca-cert", ROOT_FOLDER, True),
    ("podinfo", "/etc/istio/pod", True),
)
"""Volumes of the sidecar: name, path, whether they are read-only."""


def credentials() -> list[Any]:
    """Volumes with the token that istiod verifies, and with the certificate of the mesh's authority."""
    return [
        projected("istio-token", [{"service_account_token": _TOKEN}]),
        {"name": "istio-ca-cert", "config_map": {"name": ROOT_MAP}},
    ]


def _volumes() -> list[Any]:
    empty = [name for name, _, fixed in _MOUNTS if not fixed]
    paths = [{"path": name, "field_ref": {"field_path": f"metadata.{name}"}} for name in ("labels", "annotations")]
    return [
        # The agent keeps the private key here, which must not reach a disk.
        *({"name": f"istio-{name}", "empty_dir": {"medium": "Memory", "size_limit": "16Mi"}} for name in empty),
        *credentials(),
        {"name": "istio-podinfo", "downward_api": {"items": paths}},
    ]


def _redirected(container: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A container whose HTTP and TCP probes go to the agent, and what the agent probes, by path.

    The kubelet has no identity of the mesh, so the sidecar would refuse its connections.
    """
    numbers = {port["name"]: port["container_port"] for port in container.get("ports", [])}
    changed, probed = dict(container), dict[str, Any]()
    for kind, name in _PROBES.items():
        probe = container.get(kind)
        if not probe or not ({"http_get", "tcp_socket"} & set(probe)):
            continue
        path = f"/app-health/{container['name']}/{name}"
        action = "http_get" if "http_get" in probe else "tcp_socket"
        asked = probe[action]
        port = numbers.get(asked["port"], asked["port"])
        target = {"port": port, **({"path": asked["path"]} if action == "http_get" else {})}
        if scheme := asked.get("scheme"):
            target["scheme"] = scheme
        key = "httpGet" if action == "http_get" else "tcpSocket"
        probed[path] = {key: target, "timeoutSeconds": probe.get("timeout_seconds", 1)}
        kept = {field: value for field, value in probe.items() if field != action}
        changed[kind] = {**kept, "http_get": {"path": path, "port": AGENT_PORT}}
    return changed, probed


def admits() -> dict[str, Any]:
    """NetworkPolicy peer: the platform's pods that have a sidecar."""
    return {"pod_selector": {"match_labels": {**MEMBER, "app.kubernetes.io/part-of": PART_OF}}}
