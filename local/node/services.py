"""Commands of the node's processes, in start order."""

from __future__ import annotations

import shutil
from pathlib import Path

from local.node import settings
from local.node.process import Process
from local.node.settings import NodePaths

_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def _program(name: str) -> str:
    """Path of a Debian program, even before it is installed, so that commands can be compared."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH) or f"/usr/bin/{name}"


def _process(node: NodePaths, name: str, command: list[str], **environment: str) -> Process:
    return Process(name, tuple(command), node.pids, node.logs, environment)


def stores(node: NodePaths, binary: Path) -> list[Process]:
    """Processes below the control plane: registry, etcd, container runtime."""
    pki = node.pki
    client = f"https://127.0.0.1:{settings.ETCD_PORT}"
    peer = f"https://127.0.0.1:{settings.ETCD_PEER_PORT}"
    tls = [
        f"--cert-file={pki}/etcd.crt",
        f"--key-file={pki}/etcd.key",
        f"--trusted-ca-file={pki}/etcd-ca.crt",
    ]
    peer_tls = [
        f"--peer-cert-file={pki}/etcd.crt",
        f"--peer-key-file={pki}/etcd.key",
        f"--peer-trusted-ca-file={pki}/etcd-ca.crt",
    ]
    etcd = [
        str(binary),
        "etcd",
        "--name=local",
        f"--data-dir={node.root / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--client-cert-auth",
        "--peer-client-cert-auth",
        *tls,
        *peer_tls,
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1h",
        "--quota-backend-bytes=2147483648",
        "--log-level=warn",
    ]
    return [
        _process(node, "registry", [_program("docker-registry"), "serve", str(node.config / "registry.yaml")]),
        _process(node, "etcd", etcd, GOGC="50"),
        _process(node, "containerd", [_program("containerd"), "--config", str(node.config / "containerd.toml")]),
    ]


def api_server(node: NodePaths, binary: Path) -> Process:
    """kube-apiserver: on the node's address only, with encryption at rest and audit log."""
    pki, address = node.pki, settings.NODE_ADDRESS
    flags = {
        "bind-address": address,
        "advertise-address": address,
        "secure-port": settings.API_PORT,
        "etcd-servers": f"https://127.0.0.1:{settings.ETCD_PORT}",
        "etcd-cafile": pki / "etcd-ca.crt",
        "etcd-certfile": pki / "etcd-client.crt",
        "etcd-keyfile": pki / "etcd-client.key",
        "service-cluster-ip-range": settings.SERVICE_CIDR,
        "client-ca-file": pki / "cluster-ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "tls-min-version": "VersionTLS12",
        "kubelet-client-certificate": pki / "apiserver-kubelet.crt",
        "kubelet-client-key": pki / "apiserver-kubelet.key",
        "kubelet-certificate-authority": pki / "cluster-ca.crt",
        # Without this flag, logs and exec resolve the node's name with DNS and fail.
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": f"https://kubernetes.default.svc.{settings.CLUSTER_DOMAIN}",
        "service-account-key-file": pki / "service-accounts.pub",
        "service-account-signing-key-file": pki / "service-accounts.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki / "front-proxy.crt",
        "proxy-client-key-file": pki / "front-proxy.key",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "anonymous-auth": "false",
        "allow-privileged": "true",
        "encryption-provider-config": node.config / "encryption.yaml",
        "audit-policy-file": node.config / "audit-policy.yaml",
        "audit-log-path": node.logs / "audit.log",
        "audit-log-maxsize": 50,
        "audit-log-maxbackup": 2,
        "audit-log-mode": "batch",
        "profiling": "false",
        "event-ttl": "1h",
    }
    return _process(
        node,
        "kube-apiserver",
        [str(binary), "kube-apiserver", *(f"--{k}={v}" for k, v in flags.items())],
        GOGC="50",
    )


def controllers(node: NodePaths, binary: Path) -> list[Process]:
    """Clients of the API server: controllers, node agents, volume provisioner, load balancer."""
    pki = node.pki

    def conf(user: str) -> str:
        return str(node.config / f"{user}.kubeconfig")

    def go(name: str, *flags: str) -> Process:
        return _process(node, name, [str(binary), name, *flags], GOGC="50")

    def authenticated(user: str, port: int) -> list[str]:
        return [
            f"--kubeconfig={conf(user)}",
            f"--authentication-kubeconfig={conf(user)}",
            f"--authorization-kubeconfig={conf(user)}",
            f"--tls-cert-file={pki}/{user}.crt",
            f"--tls-private-key-file={pki}/{user}.key",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--leader-elect=false",
            "--profiling=false",
        ]

    return [
        go(
            "kube-controller-manager",
            *authenticated("controller-manager", settings.CONTROLLER_MANAGER_PORT),
            "--use-service-account-credentials=true",
            f"--root-ca-file={pki}/cluster-ca.crt",
            f"--service-account-private-key-file={pki}/service-accounts.key",
            f"--cluster-signing-cert-file={pki}/cluster-ca.crt",
            f"--cluster-signing-key-file={pki}/cluster-ca.key",
            f"--cluster-cidr={settings.POD_CIDR}",
            "--allocate-node-cidrs=false",
            "--node-monitor-grace-period=20s",
        ),
        go("kube-scheduler", *authenticated("scheduler", settings.SCHEDULER_PORT)),
        go(
            "kubelet",
            f"--config={node.config}/kubelet.yaml",
            f"--kubeconfig={conf('kubelet')}",
            f"--hostname-override={settings.NODE_NAME}",
            f"--node-ip={settings.NODE_ADDRESS}",
            f"--root-dir={node.root}/kubelet",
            f"--cert-dir={node.root}/kubelet/pki",
            "--node-labels=cogniforge.dev/environment=local,topology.kubernetes.io/zone=local",
        ),
        go(
            "kube-proxy",
            f"--kubeconfig={conf('proxy')}",
            f"--hostname-override={settings.NODE_NAME}",
            # iptables mode needs nfacct, which many kernels lack: only some rules load, and Services do not work.
            "--proxy-mode=nftables",
            f"--cluster-cidr={settings.POD_CIDR}",
            f"--nodeport-addresses={settings.NODE_ADDRESS}/32",
            "--healthz-bind-address=127.0.0.1",
            "--metrics-bind-address=127.0.0.1",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ),
        go("volume-provisioner", f"--kubeconfig={conf('volume-provisioner')}", f"--root={node.volumes}"),
        go("load-balancer", f"--kubeconfig={conf('load-balancer')}"),
        go(
            "network-policies",
            f"--kubeconfig={conf('network-policies')}",
            f"--service-cidr={settings.SERVICE_CIDR}",
            f"--hostname-override={settings.NODE_NAME}",
        ),
    ]


def all_processes(node: NodePaths, binary: Path) -> list[Process]:
    """All processes in start order. They stop in reverse order."""
    return [*stores(node, binary), api_server(node, binary), *controllers(node, binary)]
