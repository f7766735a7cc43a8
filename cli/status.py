"""`forge status`: each part's version, health, image, and the CPU and memory that it uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from rich.table import Table

from components import catalogue
from local.errors import LocalError
from local.node.node import Node
from local.toolchain import shim
from local.toolchain.tools import TOOLS, ToolName

PART_LABEL = "app.kubernetes.io/name"


@dataclass
class PartStatus:
    """One line of the table."""

    name: str
    version: str
    health: str
    image: str = ""
    cpu_m: int | None = None
    """CPU in thousandths of a core."""
    memory_mib: int | None = None
    details: list[str] = field(default_factory=list[str])

    @property
    def healthy(self) -> bool:
        """Whether the part works."""
        return self.health.startswith(("healthy", "running", "passed"))


def _usage(api: client.ApiClient, namespace: str) -> dict[str, tuple[int, int]]:
    """CPU (m) and memory (MiB) by pod, from the metrics API; empty while it has none."""
    try:
        items = client.CustomObjectsApi(api).list_namespaced_custom_object(
            "metrics.k8s.io", "v1beta1", namespace, "pods"
        )
    except ApiException:
        return {}
    found: dict[str, tuple[int, int]] = {}
    for item in items["items"]:
        usages = [c["usage"] for c in item["containers"]]
        cpu = sum(parse_quantity(u["cpu"]) for u in usages) * 1000
        memory = sum(parse_quantity(u["memory"]) for u in usages) / 2**20
        found[item["metadata"]["name"]] = (round(cpu), round(memory))
    return found


def _workload(item: Any, usage: dict[str, tuple[int, int]], pods: list[Any]) -> PartStatus:
    name = item.metadata.name
    wanted, available = item.spec.replicas or 0, item.status.available_replicas or 0
    if item.status.observed_generation != item.metadata.generation:
        available = 0  # what it reports is of the definition before
    part = name if name in catalogue.PARTS else ("inference-sim" if name.startswith("model-") else name)
    try:
        version = catalogue.image(catalogue.PARTS[part].image).version if part in catalogue.PARTS else ""
    except catalogue.LockError:
        version = ""
    image = item.spec.template.spec.containers[0].image
    mine = [
        p for p in pods if (p.metadata.labels or {}).get(PART_LABEL, (p.metadata.labels or {}).get("k8s-app")) == name
    ]
    used = [usage[p.metadata.name] for p in mine if p.metadata.name in usage]
    status = PartStatus(
        name,
        version,
        f"healthy ({available}/{wanted})" if available >= wanted else f"not ready ({available}/{wanted})",
        image.rsplit("/", 1)[-1],
        sum(u[0] for u in used) if used else None,
        sum(u[1] for u in used) if used else None,
    )
    for pod in mine:
        for container in pod.status.container_statuses or []:
            waiting = container.state.waiting
            if waiting and waiting.reason != "ContainerCreating":
                status.details.append(f"{pod.metadata.name}: {waiting.reason}: {waiting.message or ''}")
    return status


def _jobs(api: client.ApiClient, namespace: str) -> list[PartStatus]:
    found: list[PartStatus] = []
    for job in client.BatchV1Api(api).list_namespaced_job(namespace).items:
        health = "passed" if job.status.succeeded else ("failed" if job.status.failed else "running")
        image = job.spec.template.spec.containers[0].image.rsplit("/", 1)[-1]
        name = (job.metadata.labels or {}).get(PART_LABEL, job.metadata.name)
        found.append(PartStatus(name, catalogue.platform_version(), health, image))
    return found


def connect(kubeconfig: Path | None, context: str | None) -> client.ApiClient:
    """A client of the environment's cluster. Raises LocalError where there is no usable kubeconfig."""
    try:
        return config.new_client_from_config(str(kubeconfig) if kubeconfig else None, context=context)
    except (config.ConfigException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LocalError("the cluster is not known", reason=reason, fix="set KUBECONFIG, or run `forge up`") from None


def parts(kubeconfig: Path | None, context: str | None, namespaces: list[str]) -> list[PartStatus]:
    """Every workload of the namespaces. Raises LocalError where the cluster does not answer."""
    api = connect(kubeconfig, context)
    try:
        found: list[PartStatus] = []
        for namespace in namespaces:
            usage = _usage(api, namespace)
            pods = client.CoreV1Api(api).list_namespaced_pod(namespace, _request_timeout=5).items
            deployments = client.AppsV1Api(api).list_namespaced_deployment(namespace, _request_timeout=5).items
            sets = client.AppsV1Api(api).list_namespaced_stateful_set(namespace, _request_timeout=5).items
            found += [_workload(item, usage, pods) for item in (*deployments, *sets)]
            found += _jobs(api, namespace)
        return found
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise LocalError(
            "the cluster does not answer", reason=str(error).splitlines()[0], fix="start it with `forge up`"
        ) from None


def node_processes(node: Node) -> list[PartStatus]:
    """The node's own processes with what they use now."""
    version = TOOLS[ToolName.NODE].version
    found: list[PartStatus] = []
    for process in node.processes():
        live = process.running()
        if live is None:
            found.append(PartStatus(process.name, version, "not running"))
            continue
        # Proportional: the processes share one binary's pages, which the resident size counts each time.
        memory = round(live.memory_full_info().pss / 2**20)
        cpu = round(live.cpu_percent(interval=0.1) * 10)
        found.append(PartStatus(process.name, version, "running", "", cpu, memory))
    return found


def plugins() -> str:
    """Which provider plugins an update would use."""
    real = shim.real_plugins()
    names = sorted(p.name.removeprefix("pulumi-") for p in shim.STAND_INS.glob("pulumi-*"))
    return ", ".join(f"{name} ({'yours' if f'pulumi-{name}' in real else 'stand-in'})" for name in names)


def table(title: str, rows: list[PartStatus]) -> Table:
    """The rows as a table, with a total."""
    view = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("part", "version", "health", "image", "CPU m", "memory MiB"):
        view.add_column(column, justify="right" if column in {"CPU m", "memory MiB"} else "left", overflow="fold")
    for row in rows:
        style = "green" if row.healthy else "red"
        numbers = ["" if n is None else str(n) for n in (row.cpu_m, row.memory_mib)]
        view.add_row(row.name, row.version, f"[{style}]{row.health}[/]", _short(row.image), *numbers)
    view.add_row(
        "[bold]total[/]",
        "",
        "",
        "",
        str(sum(r.cpu_m or 0 for r in rows)),
        str(sum(r.memory_mib or 0 for r in rows)),
    )
    return view


def _short(image: str) -> str:
    name, _, digest = image.partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else image
