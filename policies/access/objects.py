"""The rendered objects of an environment, and the pods that they make."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

NAME = "app.kubernetes.io/name"
UNCAPTURED = "traffic.sidecar.istio.io/excludeInboundPorts"
"""Annotation of pods with a sidecar."""
_SIGNATURE = "4dabf18193072939515e22adb298388d"
"""Key by which Pulumi marks special values. Source: Pulumi, sdk/python/lib/pulumi/runtime/rpc.py."""


@dataclass(frozen=True)
class Object:
    """A registered resource with its inputs as plain data: no secret marks, whole numbers as int."""

    type: str
    name: str
    """Pulumi's name."""
    inputs: dict[str, Any]

    @property
    def kind(self) -> str:
        """The last part of the type token, such as "NetworkPolicy"."""
        return self.type.rsplit(":", 1)[-1]

    @property
    def meta(self) -> Mapping[str, Any]:
        """The metadata of a Kubernetes object."""
        return self.inputs.get("metadata") or {}

    @property
    def namespace(self) -> str:
        """The namespace of a Kubernetes object; empty for cluster-wide ones."""
        return self.meta.get("namespace", "")

    @property
    def texts(self) -> Mapping[str, str]:
        """The entries of a ConfigMap or a Secret that are known texts."""
        entries = {**(self.inputs.get("data") or {}), **(self.inputs.get("stringData") or {})}
        return {name: text for name, text in entries.items() if isinstance(text, str)}

    @property
    def title(self) -> str:
        """Kind, namespace and name, such as "NetworkPolicy cogniforge/nats"."""
        if not self.type.startswith("kubernetes:"):
            return f"{self.kind} {self.name}"
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.meta.get('name') or self.name}"


@dataclass
class Workload:
    """Pods of one name, of all workloads that make such pods."""

    name: str
    """The label app.kubernetes.io/name."""
    namespace: str
    labels: Mapping[str, str]
    account: str
    ports: dict[int, str] = field(default_factory=dict[int, str])
    """Names of the TCP ports by number."""
    scraped: int = 0
    """TCP port of its metrics as the pods announce it; 0 means none."""
    uncaptured: set[int] = field(default_factory=set[int])
    """TCP ports that clients reach without the pod's sidecar."""
    secrets: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """The workload that reads each (Secret, entry); the entry "*" means all entries."""


class Rendered:
    """All objects of an environment."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self.objects = list(objects)
        self.workloads = {workload.name: workload for workload in _workloads(self)}

    def of_kind(self, *kinds: str) -> Iterator[Object]:
        """Objects of Kubernetes of these kinds."""
        return (one for one in self.objects if one.kind in kinds and one.type.startswith("kubernetes:"))

    def of_type(self, *types: str) -> Iterator[Object]:
        """Objects of these type tokens."""
        return (one for one in self.objects if one.type in types)

    def named(self, kind: str, name: str) -> Object | None:
        """The Kubernetes object of this kind and name in Kubernetes."""
        return next((one for one in self.of_kind(kind) if one.meta.get("name") == name), None)

    @property
    def namespace(self) -> str:
        """The platform's namespace: the one with the most workloads."""
        counts = Counter(workload.namespace for workload in self.workloads.values())
        return counts.most_common(1)[0][0] if counts else ""

    def changed(self, match: Callable[[Object], bool], change: Callable[[dict[str, Any]], None]) -> Rendered:
        """A copy in which the inputs of the matching objects are changed. Raises LookupError if none matches."""
        objects, hit = list[Object](), False
        for one in self.objects:
            if match(one):
                inputs = copy.deepcopy(one.inputs)
                change(inputs)
                one, hit = Object(one.type, one.name, inputs), True
            objects.append(one)
        if not hit:
            raise LookupError("no object matches")
        return Rendered(objects)

    def without(self, match: Callable[[Object], bool]) -> Rendered:
        """A copy without the matching objects."""
        return Rendered(one for one in self.objects if not match(one))


def plain(value: Any) -> Any:
    """A value as its user sees it: secret marks are removed, and whole numbers are int."""
    if isinstance(value, dict):
        if _SIGNATURE in value:
            return plain(value.get("value"))
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def variable(rendered: Rendered, job: str, name: str) -> tuple[Any, str]:
    """The JSON value of a task's environment variable, and the task's title; None if there is no such task.

    `job`: the end of the Job's name in Pulumi, such as "postgres-provision".
    """
    for one in rendered.of_kind("Job"):
        if not one.name.endswith(f"-{job}"):
            continue
        for container in one.inputs["spec"]["template"]["spec"]["containers"]:
            for entry in container.get("env") or []:
                if entry["name"] == name and isinstance(entry.get("value"), str):
                    return json.loads(entry["value"]), f"Job {one.namespace}/{one.name}, variable {name}"
    return None, ""


_TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def _workloads(rendered: Rendered) -> Iterator[Workload]:
    found: dict[str, Workload] = {}
    for one in rendered.of_kind(*_TEMPLATES):
        spec = one.inputs["spec"]
        template = (spec["jobTemplate"]["spec"] if one.kind == "CronJob" else spec)["template"]
        labels = template.get("metadata", {}).get("labels", {})
        name = labels.get(NAME, one.name)
        spec = template["spec"]
        account = spec.get("serviceAccountName") or "default"
        made = found.setdefault(name, Workload(name, one.namespace, labels, account))
        _read_pod(made, one, template)
    for one in rendered.of_kind("InferenceService"):
        labels = one.meta["labels"]
        account = one.inputs["spec"]["predictor"].get("serviceAccountName") or "default"
        made = found.setdefault(labels[NAME], Workload(labels[NAME], one.namespace, labels, account))
        runtime = rendered.named("ServingRuntime", one.inputs["spec"]["predictor"]["model"]["runtime"])
        if runtime is not None:
            spec = runtime.inputs["spec"]
            _read_pod(made, runtime, {"metadata": {"annotations": spec.get("annotations")}, "spec": spec})
    for one in rendered.of_kind("Release"):
        gateway = (one.inputs.get("values") or {}).get("gateway") or {}
        if proxy := gateway.get("proxy"):  # Kong's chart, whose proxy pods the platform's policies select
            labels = {**gateway.get("podLabels", {}), NAME: gateway["nameOverride"]}
            account = gateway["deployment"]["serviceAccount"]["name"]
            ports = {proxy["tls"]["containerPort"]: "https"}
            found[labels[NAME]] = Workload(labels[NAME], one.inputs["namespace"], labels, account, ports)
    yield from found.values()


def _read_pod(workload: Workload, owner: Object, template: Mapping[str, Any]) -> None:
    spec = template["spec"]
    notes = (template.get("metadata") or {}).get("annotations") or {}
    if notes.get("prometheus.io/scrape") == "true":
        workload.scraped = int(notes["prometheus.io/port"])
    workload.uncaptured |= {int(port) for port in (notes.get(UNCAPTURED) or "").split(",") if port}
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for port in container.get("ports") or ():
            if port.get("protocol", "TCP") == "TCP":
                workload.ports[port["containerPort"]] = port.get("name", "")
        for entry in container.get("env") or ():
            if key := (entry.get("valueFrom") or {}).get("secretKeyRef"):
                workload.secrets[key["name"], key["key"]] = owner.title
    for volume in spec.get("volumes") or ():
        if secret := volume.get("secret"):
            workload.secrets[secret["secretName"], "*"] = owner.title
        for source in (volume.get("projected") or {}).get("sources") or ():
            if secret := source.get("secret"):
                for item in secret.get("items") or [{"key": "*"}]:
                    workload.secrets[secret["name"], item["key"]] = owner.title
