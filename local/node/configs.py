"""Writes the configuration files of the node's processes, from `settings`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from local.node import network, settings
from local.node.settings import NodePaths
from local.paths import write_private

Json = dict[str, Any]


def kubeconfig(node: NodePaths, user: str) -> Path:
    """Write a kubeconfig with the user's embedded certificate. Returns its path."""

    def inline(name: str) -> str:
        return base64.b64encode((node.pki / name).read_bytes()).decode()

    cluster = {
        "server": f"https://{settings.NODE_ADDRESS}:{settings.API_PORT}",
        "certificate-authority-data": inline("cluster-ca.crt"),
    }
    credentials = {
        "client-certificate-data": inline(f"{user}.crt"),
        "client-key-data": inline(f"{user}.key"),
    }
    context = {"cluster": "cogniforge-local", "user": user, "namespace": "default"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cogniforge-local", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "cogniforge-local", "context": context}],
        "current-context": "cogniforge-local",
    }
    path = node.kubeconfig if user == "admin" else node.config / f"{user}.kubeconfig"
    write_private(path, yaml.safe_dump(content, sort_keys=False))
    return path


def encryption(node: NodePaths) -> Path:
    """Encryption at rest: Secrets and ConfigMaps are encrypted with secretbox."""
    key = base64.b64encode((node.pki / "secrets-encryption.key").read_bytes()).decode()
    content = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["secrets", "configmaps"],
                "providers": [{"secretbox": {"keys": [{"name": "key1", "secret": key}]}}, {"identity": {}}],
            }
        ],
    }
    path = node.config / "encryption.yaml"
    write_private(path, yaml.safe_dump(content))
    return path


def audit_policy(node: NodePaths) -> Path:
    """Audit policy: all writes are logged, contents of Secrets never are, and routine requests are left out."""
    content = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {"level": "None", "resources": [{"group": "", "resources": ["events"]}]},
            {"level": "None", "verbs": ["get", "list", "watch"], "userGroups": ["system:nodes"]},
            {
                "level": "Metadata",
                "resources": [
                    {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
                    {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
                ],
            },
            {"level": "None", "verbs": ["get", "list", "watch"]},
            {"level": "Request", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        ],
    }
    path = node.config / "audit-policy.yaml"
    write_private(path, yaml.safe_dump(content))
    return path


def containerd(node: NodePaths, pause_image: str) -> Path:
    """Configuration of containerd, with its own root, state and socket, so that it does not affect other instances."""
    path = node.config / "containerd.toml"
    write_private(
        path,
        f"""version = 2
root = "{node.root / "containerd"}"
state = "{node.run / "containerd"}"
imports = []
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
  address = "{node.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  restrict_oom_score_adj = true
  enable_selinux = false
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{node.plugins}"
    conf_dir = "{node.root / "cni" / "net.d"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{node.config / "registries"}"
""",
    )
    hosts = node.config / "registries" / settings.REGISTRY / "hosts.toml"
    write_private(hosts, f'server = "http://{settings.REGISTRY}"\n[host."http://{settings.REGISTRY}"]\n')
    return path


def registry(node: NodePaths) -> Path:
    """Configuration of the image registry: on loopback only, with blobs on disk."""
    content = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(node.root / "registry")},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": settings.REGISTRY},
    }
    path = node.config / "registry.yaml"
    write_private(path, yaml.safe_dump(content))
    return path


def kubelet(node: NodePaths) -> Path:
    """Configuration of the kubelet: it listens on the node's address only, and authenticates all callers."""
    resolver, _ = network.resolver_file(node)
    content: Json = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(settings.NODE_ADDRESS),
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": settings.KUBELET_HEALTH_PORT,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(node.pki / "cluster-ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(node.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(node.pki / "kubelet.key"),
        "clusterDNS": [str(settings.DNS_ADDRESS)],
        "clusterDomain": settings.CLUSTER_DOMAIN,
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "oomScoreAdj": 0,
        "resolvConf": str(resolver),
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "podLogsDir": str(node.pod_logs),
        "volumePluginDir": str(node.root / "kubelet" / "volume-plugins"),
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "5s",
        # All of them: `forge footprint` reads their sizes, and a node that was updated often has more than 50.
        "nodeStatusMaxImages": -1,
        "syncFrequency": "10s",
        "serializeImagePulls": False,
        "shutdownGracePeriod": "0s",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
        "protectKernelDefaults": False,
        # kube-proxy uses nftables, so the kubelet's iptables chains have no use and would remain after a reset.
        "makeIPTablesUtilChains": False,
    }
    path = node.config / "kubelet.yaml"
    write_private(path, yaml.safe_dump(content))
    return path


def write_all(node: NodePaths, pause_image: str) -> None:
    """Write all files. Processes restart only if their command changes."""
    for user in (
        "admin",
        "controller-manager",
        "scheduler",
        "proxy",
        "kubelet",
        "volume-provisioner",
        "load-balancer",
        "network-policies",
        "capture",
    ):
        kubeconfig(node, user)
    encryption(node)
    audit_policy(node)
    containerd(node, pause_image)
    registry(node)
    kubelet(node)
