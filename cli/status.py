"""`forge status`: version, health, image, CPU and memory of each part."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from rich.markup import escape
from rich.table import Table

from cli import cluster, documents, output, stack
from components import catalogue
from local.errors import LocalError
from local.node.node import Node
from local.toolchain import shim
from local.toolchain.tools import TOOLS, ToolName

PART_LABEL = "app.kubernetes.io/name"
_SAMPLE_S = 0.2
"""Seconds over which the CPU usage of the node's processes is measured, for all at the same time."""


@dataclass
class PartStatus:
    """State of a part: one row of the table."""

    name: str
    version: str
    health: str
    image: str = ""
    cpu_m: int | None = None
    """CPU usage in millicores."""
    memory_mib: int | None = None
    details: list[str] = field(default_factory=list[str])
    task: bool = False
    """Whether it is a task: a Job that sets up or checks something and then ends."""

    @property
    def healthy(self) -> bool:
        """Whether the part is healthy."""
        return self.health.startswith(("healthy", "running", "passed"))


Item = dict[str, Any]
_REQUEST_TIMEOUT_S = 5.0
_LISTS = {
    "usage": "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods",
    "pods": "/api/v1/namespaces/{}/pods",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "sets": "/apis/apps/v1/namespaces/{}/statefulsets",
    "daemons": "/apis/apps/v1/namespaces/{}/daemonsets",
    "jobs": "/apis/batch/v1/namespaces/{}/jobs",
}


_WORKLOADS = ("deployments", "sets", "daemons")


def listed(api: client.ApiClient, path: str) -> list[Item]:
    """Items of a list as plain JSON. The client's own classes take longer to fill than the API server takes to answer.

    Empty if the API server lacks the API, as with metrics while metrics-server starts.
    """
    try:
        return read(api, path).get("items", [])
    except ApiException as error:
        if error.status in (404, 503) and path.startswith("/apis/metrics.k8s.io"):
            return []
        raise


def read(api: client.ApiClient, path: str) -> Item:
    """The API server's JSON at a path. Raises ApiException unless its status is 200."""
    return json.loads(text(api, path))


def text(api: client.ApiClient, path: str) -> bytes:
    """The API server's answer at a path. Raises ApiException unless its status is 200."""
    headers = {"Accept": "application/json, text/plain"}
    if token := api.configuration.get_api_key_with_prefix("authorization"):
        headers["Authorization"] = token
    answer = api.call_api("GET", api.configuration.host + path, headers, _request_timeout=_REQUEST_TIMEOUT_S)
    body = answer.read()
    if answer.status != 200:
        raise ApiException(status=answer.status, reason=answer.reason)
    return body


def _usage(items: list[Item]) -> dict[str, tuple[int, int]]:
    """(CPU in millicores, memory in MiB) by pod."""
    found: dict[str, tuple[int, int]] = {}
    for item in items:
        usages = [c["usage"] for c in item["containers"]]
        cpu = sum(parse_quantity(u["cpu"]) for u in usages) * 1000
        memory = sum(parse_quantity(u["memory"]) for u in usages) / 2**20
        found[item["metadata"]["name"]] = (round(cpu), round(memory))
    return found


def _version(name: str, known: Mapping[str, catalogue.Part]) -> str:
    """Version of a workload's part; empty: the part has no version of its own."""
    part = known.get(name) or (known["inference-sim"] if name.startswith("model-") else None)
    if part is None or part.own:
        return "own" if part else ""
    try:
        return catalogue.image(part.image).version
    except catalogue.LockError:
        return ""


def _workload(
    item: Item, usage: dict[str, tuple[int, int]], pods: list[Item], known: Mapping[str, catalogue.Part]
) -> PartStatus:
    name, spec, state = item["metadata"]["name"], item["spec"], item.get("status") or {}
    if "desiredNumberScheduled" in state:  # a DaemonSet has a pod on each node
        wanted, available = state["desiredNumberScheduled"], state.get("numberAvailable", 0)
    else:
        wanted, available = spec.get("replicas", 1), state.get("availableReplicas", 0)
    if state.get("observedGeneration") != item["metadata"]["generation"]:
        available = 0  # the reported status belongs to the previous definition
    image = spec["template"]["spec"]["containers"][0]["image"]
    mine = [p for p in pods if part_of(p) == name]
    used = [usage[p["metadata"]["name"]] for p in mine if p["metadata"]["name"] in usage]
    status = PartStatus(
        name,
        _version(name, known),
        f"healthy ({available}/{wanted})" if available >= wanted else f"not ready ({available}/{wanted})",
        image.rsplit("/", 1)[-1],
        sum(u[0] for u in used) if used else None,
        sum(u[1] for u in used) if used else None,
    )
    for pod in mine:
        for container in (pod.get("status") or {}).get("containerStatuses") or []:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting and waiting.get("reason") != "ContainerCreating":
                reason = f"{waiting.get('reason')}: {waiting.get('message', '')}"
                status.details.append(f"{pod['metadata']['name']}: {reason}")
    return status


def part_of(pod: Item) -> str | None:
    """Name of a pod's part; None if it has no label of one."""
    labels = pod["metadata"].get("labels") or {}
    return labels.get(PART_LABEL, labels.get("k8s-app"))


def _job(job: Item) -> PartStatus:
    state = job.get("status") or {}
    health = "passed" if state.get("succeeded") else ("failed" if state.get("failed") else "running")
    image = job["spec"]["template"]["spec"]["containers"][0]["image"].rsplit("/", 1)[-1]
    name = (job["metadata"].get("labels") or {}).get(PART_LABEL, job["metadata"]["name"])
    return PartStatus(name, catalogue.platform_version(), health, image, task=True)


def connect(kubeconfig: Path | None, context: str | None) -> client.ApiClient:
    """Client for the environment's cluster. Raises LocalError if there is no usable kubeconfig."""
    try:
        return config.new_client_from_config(str(kubeconfig) if kubeconfig else None, context=context)
    except (config.ConfigException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise LocalError(
            "there is no usable kubeconfig", reason=reason, fix="set KUBECONFIG, or run `forge up`"
        ) from None


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn errors of a request to the cluster into a LocalError."""
    try:
        yield
    except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
        raise LocalError(
            "the cluster does not answer", reason=str(error).splitlines()[0], fix="start it with `forge up`"
        ) from None


def parts(
    kubeconfig: Path | None,
    context: str | None,
    namespaces: list[str],
    known: Mapping[str, catalogue.Part] = catalogue.PARTS,
) -> list[PartStatus]:
    """All workloads of the namespaces. `known`: the catalogue's parts. Raises LocalError if the cluster does not
    answer."""
    api = connect(kubeconfig, context)
    wanted = [(namespace, name, path.format(namespace)) for namespace in namespaces for name, path in _LISTS.items()]
    api.configuration.retries = False
    with answering(), ThreadPoolExecutor(len(wanted)) as pool:
        answers = list(pool.map(lambda one: listed(api, one[2]), wanted))
    lists = {(namespace, name): items for (namespace, name, _), items in zip(wanted, answers, strict=True)}
    found: list[PartStatus] = []
    for namespace in namespaces:
        usage, pods = _usage(lists[namespace, "usage"]), lists[namespace, "pods"]
        workloads = [item for kind in _WORKLOADS for item in lists[namespace, kind]]
        found += [_workload(item, usage, pods, known) for item in workloads]
        found += [_job(job) for job in lists[namespace, "jobs"]]
    return found


def node_processes(node: Node) -> list[PartStatus]:
    """Processes of the local node with their current usage."""
    version = TOOLS[ToolName.NODE].version
    running = {process.name: process.running() for process in node.processes()}
    began, before = time.monotonic(), {name: _cpu_s(live) for name, live in running.items()}
    time.sleep(_SAMPLE_S)
    elapsed_s = time.monotonic() - began
    found: list[PartStatus] = []
    for name, live in running.items():
        after, start = _cpu_s(live), before[name]
        if live is None or after is None or start is None:
            found.append(PartStatus(name, version, "not running"))
            continue
        cpu_m = round((after - start) / elapsed_s * 1000)
        found.append(PartStatus(name, version, "running", "", cpu_m, _memory_mib(live.pid)))
    return found


def _cpu_s(process: psutil.Process | None) -> float | None:
    """CPU seconds that a process has used; None if it has ended."""
    try:
        times = process.cpu_times() if process else None
    except psutil.Error:
        return None
    return times.user + times.system if times else None


def _memory_mib(pid: int) -> int | None:
    """Proportional set size in MiB. The processes share one binary, whose pages the resident size counts repeatedly."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((round(int(line.split()[1]) / 1024) for line in lines if line.startswith("Pss:")), None)


def plugins() -> dict[str, str]:
    """Kind of each provider plugin that an update would use: "real" or "stand-in", by name."""
    real = shim.real_plugins()
    return {name.removeprefix("pulumi-"): "real" if name in real else "stand-in" for name in sorted(shim.STAND_INS)}


@dataclass(frozen=True)
class Found:
    """All data that `forge status` shows."""

    stack: str
    node: list[PartStatus]
    rows: list[PartStatus]
    plugins: dict[str, str]

    @property
    def healthy(self) -> bool:
        """Whether all parts are healthy and no task has failed."""
        return all(row.healthy for row in [*self.node, *self.rows])


def collect(name: str) -> Found:
    """State of an environment. Raises LocalError if its cluster does not answer."""
    config = stack.read_config(name)
    local = cluster.is_local(config)
    namespaces = [*cluster.namespaces(config), *(["kube-system"] if local else [])]
    with ThreadPoolExecutor(1) as pool:
        node = pool.submit(node_processes, Node()) if local else None
        known = catalogue.parts(config.around.records.values())
        rows = parts(cluster.kubeconfig(config), config.cluster.context or None, namespaces, known)
        return Found(name, node.result() if node else [], rows, plugins())


def names(kubeconfig: Path | None, context: str | None, namespace: str) -> list[str]:
    """Names of the parts with pods. Raises LocalError if the cluster does not answer."""
    api = connect(kubeconfig, context)
    api.configuration.retries = False
    with answering():
        pods = listed(api, _LISTS["pods"].format(namespace))
    return sorted({label for pod in pods if (label := (pod["metadata"].get("labels") or {}).get(PART_LABEL))})


def document(found: Found) -> documents.Status:
    """The state as a JSON document."""
    return documents.Status(
        stack=found.stack,
        healthy=found.healthy,
        node=[_workload_document(row) for row in found.node],
        parts=[_workload_document(row) for row in found.rows if not row.task],
        tasks=[_workload_document(row) for row in found.rows if row.task],
        plugins=found.plugins,
    )


def _workload_document(row: PartStatus) -> documents.Workload:
    return documents.Workload(
        name=row.name,
        version=row.version,
        healthy=row.healthy,
        health=row.health,
        image=row.image,
        cpu_millicores=row.cpu_m,
        memory_mib=row.memory_mib,
        details=row.details,
    )


def show(found: Found, *, tasks: bool) -> None:
    """Print the tables. Failed tasks are always shown."""
    if found.node:
        output.console.print(table("Node", found.node))
        output.console.print()
    output.console.print(table("Parts", [row for row in found.rows if not row.task]))
    listed = [row for row in found.rows if row.task and (tasks or not row.healthy)]
    if listed:
        output.console.print()
        output.console.print(table("Tasks", listed))
    output.console.print()
    for row in found.rows:
        for detail in row.details:
            output.line(f"[red]{row.name}[/]: {escape(detail)}", indent=2)
    output.line(f"Pulumi plugins: {', '.join(f'{name} ({kind})' for name, kind in found.plugins.items())}", indent=2)


_NUMBERS = frozenset({"CPU m", "memory MiB"})


def table(title: str, rows: list[PartStatus]) -> Table:
    """The rows as a table, with totals for columns that have figures."""
    measured = any(row.memory_mib is not None for row in rows)
    images = any(row.image for row in rows)
    columns = ["part", "version", "health", *(["image"] if images else []), *(sorted(_NUMBERS) if measured else [])]
    view = output.table(*columns, title=title, right=_NUMBERS)
    for row in rows:
        cells = [row.name, row.version, f"[{'green' if row.healthy else 'red'}]{row.health}[/]"]
        cells += [_short(row.image)] if images else []
        cells += ["" if n is None else str(n) for n in (row.cpu_m, row.memory_mib)] if measured else []
        view.add_row(*cells)
    if measured:
        total = [str(sum(r.cpu_m or 0 for r in rows)), str(sum(r.memory_mib or 0 for r in rows))]
        view.add_row("[bold]total[/]", *[""] * (len(columns) - 3), *total)
    return view


def _short(image: str) -> str:
    """Name and beginning of the digest, which distinguishes builds."""
    name, _, digest = image.partition("@sha256:")
    return f"{name}@{digest[:8]}" if digest else image
