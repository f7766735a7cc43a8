"""What a cluster has already: parts that are reused, and parts that stand in the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from components import catalogue
from components.versions import numbers


@dataclass(frozen=True)
class Footprint:
    """How a part is recognised."""

    chart: str
    """Its name in versions.lock.yaml."""
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
    """A part that is there, and what becomes of it."""

    part: Footprint
    namespace: str
    version: str
    ours: bool
    """Whether an update of the platform put it there."""
    refusal: str = ""
    """Why it cannot be reused; empty: it can."""
    fix: str = ""

    @property
    def reused(self) -> bool:
        """Whether the platform leaves it to whoever runs it."""
        return not self.ours and not self.refusal


class ClusterConflict(Exception):
    """The cluster has parts that the platform can neither reuse nor replace; the text has all of them."""

    def __init__(self, conflicts: Iterable[Found]) -> None:
        lines = [
            f"{found.part.title} {found.version or '(unknown version)'} in {found.namespace}: {found.refusal}\n"
            f"    fix: {found.fix}"
            for found in conflicts
        ]
        super().__init__("the cluster has parts that cannot be reused:\n  " + "\n  ".join(lines))


def judge(deployments: Iterable[Mapping[str, Any]], own_namespaces: Iterable[str]) -> list[Found]:
    """Look through a cluster's Deployments (as JSON) for parts. Those in the platform's own namespaces are its own."""
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
    """From the label that charts set, else from the image's tag."""
    labels = cast("Mapping[str, str]", deployment["metadata"].get("labels") or {})
    if version := labels.get("app.kubernetes.io/version", ""):
        return version
    containers = deployment["spec"]["template"]["spec"]["containers"]
    image = str(containers[0]["image"]).split("@")[0]
    return image.rsplit(":", 1)[1] if ":" in image.rsplit("/", 1)[-1] else ""


def _refusal(part: Footprint, version: str) -> tuple[str, str]:
    """Reusable is what has the pinned major and minor version, or one minor version less."""
    pinned = catalogue.chart(part.chart).version
    wanted, there = numbers(pinned), numbers(version)
    assert wanted is not None  # pins have numbers
    if there is None:
        return "its version cannot be told", f"label its Deployment with app.kubernetes.io/version: {pinned}"
    if there[0] == wanted[0] and wanted[1] - there[1] in (0, 1):
        return "", ""
    fix = f"move it to {pinned}, or take it away and let the platform install it"
    return f"the platform is tested with {pinned} and one minor version less", fix
