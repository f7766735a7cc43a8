"""Finds parts that a cluster has already, and decides whether the platform can reuse them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from components import catalogue
from components.versions import numbers


@dataclass(frozen=True)
class Footprint:
    """How an installed part is recognised."""

    chart: str
    """Name of its chart in versions.lock.yaml."""
    deployment: str
    title: str


FOOTPRINTS = (
    Footprint("istiod", "istiod", "Istio"),
    Footprint("cert-manager", "cert-manager", "cert-manager"),
    Footprint("keda", "keda-operator", "KEDA"),
    Footprint("kserve", "kserve-controller-manager", "KServe"),
    Footprint("gpu-operator", "gpu-operator", "NVIDIA's GPU operator"),
    Footprint("karpenter", "karpenter", "Karpenter"),
)


@dataclass(frozen=True)
class Found:
    """An installed part, and whether it can be reused."""

    part: Footprint
    namespace: str
    version: str
    ours: bool
    """Whether the platform itself installed it."""
    refusal: str = ""
    """Why it cannot be reused; empty if it can."""
    fix: str = ""

    @property
    def reused(self) -> bool:
        """Whether the platform uses the part as it is, and leaves its operation to its owner."""
        return not self.ours and not self.refusal


class ClusterConflict(Exception):
    """The cluster has parts that the platform can neither reuse nor replace. The message lists all of them."""

    def __init__(self, conflicts: Iterable[Found]) -> None:
        lines = [
            f"{found.part.title} {found.version or '(unknown version)'} in {found.namespace}: {found.refusal}\n"
            f"    fix: {found.fix}"
            for found in conflicts
        ]
        super().__init__("the cluster has parts that cannot be reused:\n  " + "\n  ".join(lines))


def judge(deployments: Iterable[Mapping[str, Any]], own_namespaces: Iterable[str]) -> list[Found]:
    """Find parts among a cluster's Deployments (as JSON). Those in `own_namespaces` belong to the platform."""
    own = set(own_namespaces)
    found: list[Found] = []
    for deployment in deployments:
        metadata = cast("Mapping[str, Any]", deployment["metadata"])
        part = next((p for p in FOOTPRINTS if p.deployment == metadata["name"]), None)
        if part is None:
            continue
        namespace, version = str(metadata["namespace"]), _version(deployment)
        if namespace in own:
            found.append(Found(part, namespace, version, ours=True))
        else:
            refusal, fix = _refusal(part, version)
            found.append(Found(part, namespace, version, False, refusal, fix))
    return found


def _version(deployment: Mapping[str, Any]) -> str:
    """Version from the label that charts set, otherwise from the image's tag."""
    labels = cast("Mapping[str, str]", deployment["metadata"].get("labels") or {})
    if version := labels.get("app.kubernetes.io/version", ""):
        return version
    containers = deployment["spec"]["template"]["spec"]["containers"]
    image = str(containers[0]["image"]).split("@")[0]
    return image.rsplit(":", 1)[1] if ":" in image.rsplit("/", 1)[-1] else ""


def _refusal(part: Footprint, version: str) -> tuple[str, str]:
    """(reason, fix) of a refusal; both empty for the pinned minor version and the one before, which can be reused."""
    pinned = catalogue.chart(part.chart).version
    wanted, there = numbers(pinned), numbers(version)
    assert wanted is not None  # all pinned versions are numeric
    if there is None:
        return "its version is unknown", f"label its Deployment with app.kubernetes.io/version: {pinned}"
    if there[0] == wanted[0] and wanted[1] - there[1] in (0, 1):
        return "", ""
    fix = f"change it to {pinned}, or remove it and let the platform install it"
    return f"the platform is tested with {pinned} and the minor version before it", fix
