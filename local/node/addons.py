"""Cluster add-ons of the local node: RBAC rules, DNS, a StorageClass, metrics-server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from local.node import network, settings
from local.node.settings import NodePaths

Manifest = dict[str, Any]
FIELD_MANAGER = "cogniforge-node"
_LABELS = {"app.kubernetes.io/managed-by": "cogniforge", "app.kubernetes.io/part-of": "cogniforge-node"}


def _meta(name: str, namespace: str | None = "kube-system", **labels: str) -> Manifest:
    meta: Manifest = {
        "name": name,
        "labels": {**_LABELS, "app.kubernetes.io/name": name.replace(":", "-"), **labels},
    }
    return {**meta, "namespace": namespace} if namespace else meta


def _binding(name: str, role: str, subject: Manifest) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": _meta(name, None),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def _role(name: str, *rules: tuple[list[str], list[str], list[str]]) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": _meta(name, None),
        "rules": [{"apiGroups": groups, "resources": kinds, "verbs": verbs} for groups, kinds, verbs in rules],
    }


def _user(name: str) -> Manifest:
    return {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def _account(name: str) -> Manifest:
    return {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}


_READ = ["get", "list", "watch"]


def rights() -> list[Manifest]:
    """RBAC rules for the node's own processes."""
    return [
        _binding("cogniforge:kubelet-api", "system:kubelet-api-admin", _user("kube-apiserver-kubelet-client")),
        _binding(
            "cogniforge:volume-provisioner",
            "cogniforge:volume-provisioner",
            _user("cogniforge:volume-provisioner"),
        ),
        _role(
            "cogniforge:volume-provisioner",
            ([""], ["persistentvolumes"], [*_READ, "create", "delete", "patch", "update"]),
            ([""], ["persistentvolumeclaims"], [*_READ, "update"]),
            ([""], ["persistentvolumeclaims/status"], ["patch"]),
            ([""], ["nodes"], _READ),
            ([""], ["events"], ["create", "patch", "update"]),
            (["storage.k8s.io"], ["storageclasses"], _READ),
        ),
        _binding("cogniforge:load-balancer", "cogniforge:load-balancer", _user("cogniforge:load-balancer")),
        _role(
            "cogniforge:load-balancer",
            ([""], ["services"], _READ),
            ([""], ["services/status"], ["update", "patch"]),
            ([""], ["events"], ["create"]),
        ),
        _binding("cogniforge:network-policies", "cogniforge:network-policies", _user("cogniforge:network-policies")),
        _role(
            "cogniforge:network-policies",
            ([""], ["nodes", "pods", "namespaces"], _READ),
            (["networking.k8s.io"], ["networkpolicies"], _READ),
        ),
        _binding("cogniforge:capture", "cogniforge:capture", _user("cogniforge:capture")),
        _role("cogniforge:capture", ([""], ["pods"], ["get"])),
    ]


def _storage_class() -> Manifest:
    meta = _meta("local-path", None)
    meta["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": meta,
        "provisioner": "cogniforge.dev/local-path",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": True,
        # The volume is created on the node of its first pod.
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _probe(path: str, port: int, scheme: str = "HTTP", period_s: int = 5) -> Manifest:
    return {
        "httpGet": {"path": path, "port": port, "scheme": scheme},
        "periodSeconds": period_s,
        "timeoutSeconds": 3,
    }


def _server(name: str, image: str, binary: Path, args: list[str], container: Manifest, **pod: Any) -> Manifest:
    """A Deployment with one replica that runs a binary of the tool cache, mounted read-only.

    Its image is the pause image, which contains nothing else. The pod and the node's own processes then share the
    memory pages of the binary.
    """
    labels = {"k8s-app": name}
    volumes = [
        {"name": "program", "hostPath": {"path": str(binary), "type": "File"}},
        *pod.pop("volumes", []),
    ]
    mounts = [{"name": "program", "mountPath": f"/bin/{binary.name}", "readOnly": True}]
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"], **container.pop("capabilities", {})},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    main: Manifest = {
        "name": name,
        "image": image,
        "command": [f"/bin/{binary.name}", *args],
        "securityContext": security,
        **container,
        "volumeMounts": [*mounts, *container.get("volumeMounts", [])],
    }
    spec: Manifest = {
        "serviceAccountName": name,
        "priorityClassName": "system-cluster-critical",
        "containers": [main],
        "volumes": volumes,
        **pod,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(name, **labels),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": {**_LABELS, **labels}}, "spec": spec},
        },
    }


def _service_account(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(name)}


def _dns(node: NodePaths, image: str, binary: Path) -> list[Manifest]:
    _, upstream = network.resolver_file(node)
    forward = f"    forward . {' '.join(upstream)}\n" if upstream else ""
    corefile = (
        ".:53 {\n    errors\n    health :8080 {\n        lameduck 3s\n    }\n    ready :8181\n"
        f"    kubernetes {settings.CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{\n        pods insecure\n"
        "        fallthrough in-addr.arpa ip6.arpa\n        ttl 5\n    }\n    prometheus :9153\n"
        f"{forward}    cache 30\n    reload\n    loadbalance\n}}\n"
    )
    container: Manifest = {
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "170Mi"}},
        "readinessProbe": _probe("/ready", 8181, period_s=1),
        "livenessProbe": _probe("/health", 8080),
        "env": [{"name": "GOGC", "value": "50"}],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    service_ports = [
        {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp", "protocol": "TCP"},
    ]
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta("coredns"),
        "data": {"Corefile": corefile},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta("kube-dns"),
        "spec": {
            "clusterIP": str(settings.DNS_ADDRESS),
            "selector": {"k8s-app": "coredns"},
            "ports": service_ports,
        },
    }
    role = _role(
        "cogniforge:coredns",
        ([""], ["endpoints", "services", "pods", "namespaces"], ["list", "watch"]),
        (["discovery.k8s.io"], ["endpointslices"], ["list", "watch"]),
    )
    deployment = _server(
        "coredns",
        image,
        binary,
        ["coredns", "-conf", "/etc/coredns/Corefile"],
        container,
        dnsPolicy="Default",
        # NetworkPolicies match the pod's port, so DNS listens on the same port as in other clusters.
        securityContext={"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}]},
        volumes=[{"name": "config", "configMap": {"name": "coredns"}}],
    )
    binding = _binding("cogniforge:coredns", "cogniforge:coredns", _account("coredns"))
    return [_service_account("coredns"), role, binding, config, service, deployment]


def _metrics(node: NodePaths, image: str, binary: Path) -> list[Manifest]:
    name = "metrics-server"
    args = [
        "--cert-dir=/tmp",
        "--secure-port=10250",
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-certificate-authority=/etc/kubelet/ca.crt",
        "--metric-resolution=15s",
    ]
    container: Manifest = {
        "ports": [{"name": "https", "containerPort": 10250}],
        "resources": {"requests": {"cpu": "20m", "memory": "40Mi"}, "limits": {"memory": "170Mi"}},
        "readinessProbe": _probe("/readyz", 10250, "HTTPS"),
        "livenessProbe": _probe("/livez", 10250, "HTTPS", 10),
        "env": [{"name": "GOGC", "value": "50"}],
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "kubelet-ca", "mountPath": "/etc/kubelet", "readOnly": True},
        ],
    }
    authority = (node.pki / "cluster-ca.crt").read_text()
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta("kubelet-ca"),
        "data": {"ca.crt": authority},
    }
    role = _role(
        "cogniforge:metrics-server",
        ([""], ["nodes/metrics"], ["get"]),
        ([""], ["pods", "nodes"], _READ),
    )
    reader = _role("cogniforge:metrics-reader", (["metrics.k8s.io"], ["pods", "nodes"], _READ))
    reader["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] = "true"
    auth_reader = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _meta("cogniforge:metrics-server-auth"),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [_account(name)],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(name),
        "spec": {
            "selector": {"k8s-app": name},
            "ports": [{"name": "https", "port": 443, "targetPort": "https", "appProtocol": "https"}],
        },
    }
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": _meta("v1beta1.metrics.k8s.io", None),
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": name, "namespace": "kube-system"},
        },
    }
    deployment = _server(
        name,
        image,
        binary,
        args,
        container,
        volumes=[
            {"name": "tmp", "emptyDir": {}},
            {"name": "kubelet-ca", "configMap": {"name": "kubelet-ca"}},
        ],
    )
    return [
        _service_account(name),
        role,
        reader,
        auth_reader,
        _binding("cogniforge:metrics-server", "cogniforge:metrics-server", _account(name)),
        _binding("cogniforge:metrics-server-delegator", "system:auth-delegator", _account(name)),
        config,
        service,
        deployment,
        api,
    ]


def manifests(node: NodePaths, image: str, node_binary: Path, metrics_binary: Path) -> list[Manifest]:
    """All objects of the add-ons except `rights`, in the order of application."""
    return [
        _storage_class(),
        *_dns(node, image, node_binary),
        *_metrics(node, image, metrics_binary),
    ]
