"""Addresses, ports and folders of the local node."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from local import paths

CLUSTER_DOMAIN = "cluster.local"
NODE_NAME = "local"

# 198.18.0.0/15 is reserved for benchmarking (RFC 2544), so no private network uses it.
POD_CIDR = ipaddress.ip_network("198.18.0.0/17")
SERVICE_CIDR = ipaddress.ip_network("198.19.0.0/16")
NODE_ADDRESS = ipaddress.ip_address("198.18.128.1")
"""Address of the node, on its own link. The API server listens on this address only."""
DNS_ADDRESS = SERVICE_CIDR[10]
API_SERVICE_ADDRESS = SERVICE_CIDR[1]
LINK = "cogniforge0"

API_PORT = 6443
ETCD_PORT = 23790
ETCD_PEER_PORT = 23800
REGISTRY_PORT = 5780
GATEWAY_PORT = 8443
KUBELET_HEALTH_PORT = 10248
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259
PROXY_HEALTH_PORT = 10256
CONTAINERD_METRICS_PORT = 13380

LOOPBACK_PORTS: dict[int, str] = {
    ETCD_PORT: "etcd",
    ETCD_PEER_PORT: "etcd (peers)",
    REGISTRY_PORT: "the image registry",
    KUBELET_HEALTH_PORT: "the kubelet's health check",
    CONTROLLER_MANAGER_PORT: "kube-controller-manager",
    SCHEDULER_PORT: "kube-scheduler",
}
REGISTRY = f"127.0.0.1:{REGISTRY_PORT}"

MEMORY_FLOOR_BYTES = 3 * 1024**3
DISK_FLOOR_BYTES = 4 * 1024**3
"""Least free disk space for a start, in bytes. Images, etcd and volumes need more later."""


@dataclass(frozen=True)
class NodePaths:
    """Folders of the node. All are under the state folder, except sockets, whose paths must be short."""

    root: Path = field(default_factory=lambda: paths.state() / "node")
    run: Path = Path("/run/cogniforge")

    @property
    def pki(self) -> Path:
        """Keys and certificates, mode 0600."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Generated configuration files."""
        return self.root / "config"

    @property
    def logs(self) -> Path:
        """One log file per process, and the API server's audit log."""
        return self.root / "logs"

    @property
    def pod_logs(self) -> Path:
        """Folder of the logs of pods."""
        return self.logs / "pods"

    @property
    def pids(self) -> Path:
        """One record per process: its process ID and start time."""
        return self.root / "pids"

    @property
    def kubeconfig(self) -> Path:
        """Path of the administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """Path of containerd's socket."""
        return self.run / "containerd.sock"

    @property
    def plugins(self) -> Path:
        """Folder in which containerd finds CNI plugins."""
        return self.root / "cni" / "bin"

    @property
    def volumes(self) -> Path:
        """One folder per persistent volume."""
        return self.root / "volumes"
