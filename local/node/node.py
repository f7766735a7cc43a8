"""The local node: up, down, reset, and the state of its processes."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from filelock import FileLock, Timeout
from kubernetes import client

from local import paths
from local.errors import LocalError
from local.node import addons, api, capture, configs, network, pki, preflight, services, settings
from local.node.process import Process
from local.node.settings import NodePaths
from local.toolchain import builder
from local.toolchain.tools import TOOLS, ToolName

READY_TIMEOUT_S = 90.0
_CGROUPS = Path("/sys/fs/cgroup")

Say = Callable[[str], None]


@dataclass
class Node:
    """The local Kubernetes node. All operations can be repeated and resumed."""

    paths: NodePaths = field(default_factory=NodePaths)
    say: Say = lambda _: None

    @property
    def binary(self) -> Path:
        """Path of the multi-call binary. It is built if necessary."""
        return builder.resolve(ToolName.NODE)

    def processes(self) -> list[Process]:
        """All processes in start order."""
        return services.all_processes(self.paths, builder.cached_path(TOOLS[ToolName.NODE]))

    def client(self) -> client.ApiClient:
        """API client with administrator rights."""
        return api.connect(self.paths.kubeconfig)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        lock = FileLock(paths.private_folder(paths.state()) / "node.lock")
        try:
            with lock.acquire(timeout=600):
                yield
        except Timeout:
            raise LocalError(
                "another command has been changing the node for ten minutes", fix="wait until it has ended"
            ) from None

    # --- up ---------------------------------------------------------------------------------

    def up(self, pause_image: Callable[[], str], *, mesh: bool = False) -> None:
        """Start the node and wait until it is Ready. Running, unchanged processes are not restarted.

        `pause_image` returns the reference of the pause image. It is called after the registry has started. `mesh`:
        whether the node captures the traffic of pods with a sidecar.
        """
        with self._exclusive():
            running = {p.name for p in self.processes() if p.running()}
            self._preflight(running)
            for folder in (self.paths.root, self.paths.run, self.paths.root / "etcd", self.paths.volumes):
                paths.private_folder(folder)
            self.paths.volumes.chmod(0o711)
            self.paths.root.chmod(0o711)
            pki.ensure(self.paths)
            capture.link_programs(self.paths)
            if mesh:
                capture.prepare(self.paths)
            network.configure(self.paths, [capture.plugin(self.paths)] if mesh else [])
            configs.registry(self.paths)
            self._start_registry()
            image = pause_image()
            configs.write_all(self.paths, image)
            self._start_control_plane()
            self._start_agents(image)
            if mesh:
                api.apply(self.client(), capture.definitions())

    def _preflight(self, running: set[str]) -> None:
        names = {
            settings.REGISTRY_PORT: "registry",
            settings.ETCD_PORT: "etcd",
            settings.ETCD_PEER_PORT: "etcd",
            settings.KUBELET_HEALTH_PORT: "kubelet",
            settings.CONTROLLER_MANAGER_PORT: "kube-controller-manager",
            settings.SCHEDULER_PORT: "kube-scheduler",
        }
        ports = {port: use for port, use in settings.LOOPBACK_PORTS.items() if names[port] not in running}
        preflight.check(self.paths.root, ports)

    def _start(self, process: Process) -> None:
        if process.start():
            self.say(f"started {process.name}")

    def _start_registry(self) -> None:
        process = services.stores(self.paths, self.binary)[0]
        self._start(process)
        pool = _http()
        url = f"http://{settings.REGISTRY}/v2/"
        api.wait_for("the image registry", lambda: pool.request("GET", url).status == 200, 20, process.require_running)

    def _start_control_plane(self) -> None:
        _, etcd, containerd = services.stores(self.paths, self.binary)
        self._start(etcd)
        self._start(containerd)
        server = services.api_server(self.paths, self.binary)
        self._start(server)
        handle = self.client()

        def alive() -> None:
            for process in (etcd, containerd, server):
                process.require_running()

        api.wait_for("the API server", lambda: api.api_ready(handle), READY_TIMEOUT_S, alive)
        api.wait_for("containerd", self._containerd_ready, READY_TIMEOUT_S, containerd.require_running)

    def _containerd_ready(self) -> bool:
        return self._ctr("version").returncode == 0

    def _ctr(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", str(self.paths.containerd_socket), "--namespace", "k8s.io", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def _start_agents(self, image: str) -> None:
        handle = self.client()
        api.apply(handle, addons.rights())
        processes = services.controllers(self.paths, self.binary)
        for process in processes:
            if process.name == "kube-proxy" and not process.up_to_date():
                # On its first sync, kube-proxy trusts existing endpoint chains, even one that its predecessor had
                # emptied before it died. Without tables, it writes all chains.
                network.remove_proxy_tables()
            self._start(process)
        metrics = builder.resolve(ToolName.METRICS_SERVER)
        api.apply(handle, addons.manifests(self.paths, image, self.binary, metrics))

        def alive() -> None:
            for process in processes:
                process.require_running()

        api.wait_for("the node", lambda: api.node_ready(handle), READY_TIMEOUT_S, alive)
        api.wait_for(
            "cluster DNS",
            lambda: api.deployment_ready(handle, "kube-system", "coredns"),
            READY_TIMEOUT_S,
            alive,
        )

    # --- down and reset -----------------------------------------------------------------------

    def down(self) -> list[str]:
        """Stop all pods and processes. Data stays. Returns the names of the stopped processes."""
        with self._exclusive():
            return self._stop()

    def _stop(self) -> list[str]:
        if not self.paths.pids.exists():
            return []
        processes = self.processes()
        agents = [p for p in processes if p.name not in {"containerd", "etcd", "registry"}]
        stopped = [p.name for p in reversed(agents) if p.stop()]
        self._stop_pods(next(p for p in processes if p.name == "containerd"))
        stores = [p for p in processes if p.name in {"containerd", "etcd", "registry"}]
        return stopped + [p.name for p in reversed(stores) if p.stop()]

    def _stop_pods(self, containerd: Process) -> None:
        """Stop all containers through containerd, which is started if it is not running."""
        if not (self.paths.config / "containerd.toml").exists():
            return
        containerd.start()
        api.wait_for("containerd", self._containerd_ready, 30)
        deadline = time.monotonic() + 30
        while tasks := self._ctr("tasks", "list", "--quiet").stdout.split():
            for task in tasks:
                self._ctr("tasks", "kill", "--signal", "SIGKILL", "--all", task)
                self._ctr("tasks", "delete", "--force", task)
            if time.monotonic() > deadline:
                raise LocalError(f"containers do not stop: {', '.join(tasks)}", fix="run the same command again")

    def reset(self) -> None:
        """Stop the node and remove its processes, mounts, links, firewall rules, control groups and files."""
        with self._exclusive():
            self._stop()
            namespaces = self._pod_namespaces()
            network.remove(self.paths)
            network.unmount_below(self.paths.root, self.paths.run, *namespaces)
            for namespace in namespaces:
                namespace.unlink(missing_ok=True)
            for group in _CGROUPS.glob("**/kubepods"):
                _remove_cgroup(group)
            network.remove_shared_folders(self.paths)
            for folder in (self.paths.root, self.paths.run):
                if folder.exists():
                    shutil.rmtree(folder)
        (paths.state() / "node.lock").unlink(missing_ok=True)

    def _pod_namespaces(self) -> list[Path]:
        """Network namespaces of the node's pods, from the records of the address pool."""
        pool = self.paths.root / "cni" / "addresses" / "cogniforge"
        if not pool.exists():
            return []
        return sorted(Path("/run/netns").glob("cni-*"))


def _remove_cgroup(group: Path) -> None:
    """Remove a control group, leaves first. The kernel may need a moment after the last process has ended."""
    for child in sorted((p for p in group.glob("**/") if p.is_dir()), key=lambda p: len(p.parts), reverse=True):
        with contextlib.suppress(OSError):
            child.rmdir()


def _http() -> urllib3.PoolManager:
    return urllib3.PoolManager(timeout=2.0, retries=False)
