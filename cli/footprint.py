"""What the parts of a running environment cost: CPU, memory, disk, images and start time, from the kubelets."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli import cluster, documents, output, stack, status
from components.config.platform import PlatformConfig
from components.config.profile import Profile
from local.errors import LocalError

Item = dict[str, Any]
_MIB = 2**20


@dataclass
class Part:
    """Figures of a part: sums over its pods."""

    name: str
    pods: int = 0
    cpu_m: float = 0.0
    """Mean CPU usage in millicores while it was measured."""
    memory_mib: float = 0.0
    """Working set in MiB at the end."""
    disk_mib: float = 0.0
    """Used space of its volumes in MiB; 0 without a volume."""
    images: dict[str, float] = field(default_factory=dict[str, float])
    """Size in MiB of each image on the node, unpacked where the runtime reports that."""
    start_s: float | None = None
    """Seconds from the start of a pod's containers until it was ready; the slowest pod. The clock has whole seconds."""

    @property
    def image_mib(self) -> float:
        """Size of its images in MiB."""
        return sum(self.images.values())


@dataclass
class Footprint:
    """Figures of an environment."""

    stack: str
    profile: Profile | None
    seconds: float
    """How long CPU usage was measured."""
    parts: list[Part]
    began: datetime
    """When the measurement began."""

    @property
    def image_mib(self) -> float:
        """Size of all images in MiB. Images that several parts run count once."""
        return sum({name: size for part in self.parts for name, size in part.images.items()}.values())


def collect(name: str, seconds: float) -> Footprint:
    """Measure an environment for this time. Raises LocalError if its cluster does not answer."""
    config = stack.read_config(name)
    stack.require_deployed(name)
    reader = Reader(config)
    began = datetime.now(UTC)
    before = reader.usage()
    time.sleep(seconds)
    after = reader.usage()
    pods, images, volumes = reader.pods(), reader.images(), reader.volumes()
    return Footprint(name, config.profile, seconds, parts(pods, before, after, images, volumes), began)


class Reader:
    """Reads an environment's pods and their usage through the API server."""

    def __init__(self, config: PlatformConfig) -> None:
        self.api = status.connect(cluster.kubeconfig(config), config.cluster.context or None)
        self.api.configuration.retries = False
        self.namespaces, self._local = cluster.namespaces(config), cluster.is_local(config)

    def pods(self) -> list[Item]:
        """Pods that run; those of tasks have ended."""
        found = [pod for one in self.namespaces for pod in self._listed(f"/api/v1/namespaces/{one}/pods")]
        return [pod for pod in found if (pod.get("status") or {}).get("phase") == "Running" and not _task(pod)]

    def usage(self) -> dict[str, Item]:
        """The kubelets' figures of each pod, by name."""
        nodes = sorted({pod["spec"]["nodeName"] for pod in self.pods()})
        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            answers = list(pool.map(self._summary, nodes))
        found = [pod for answer in answers for pod in answer.get("pods", [])]
        return {pod["podRef"]["name"]: pod for pod in found if pod["podRef"]["namespace"] in self.namespaces}

    def images(self) -> dict[str, float]:
        """Size in MiB of each image, by all its names. By default, kubelets report their 50 largest images only."""
        nodes = self._listed("/api/v1/nodes")
        return {
            name: image["sizeBytes"] / _MIB
            for node in nodes
            for image in node["status"].get("images", [])
            for name in image.get("names") or []
        }

    def volumes(self) -> dict[str, float]:
        """Used space in MiB of volumes that are folders of this machine, by name of the claim.

        The kubelet reports their whole file system. Empty for other clusters.
        """
        if not self._local:
            return {}
        found: dict[str, float] = {}
        for volume in self._listed("/api/v1/persistentvolumes"):
            spec = volume["spec"]
            path = (spec.get("hostPath") or spec.get("local") or {}).get("path")
            claim = spec.get("claimRef") or {}
            if path and claim.get("namespace") in self.namespaces:
                found[claim["name"]] = folder_bytes(Path(path)) / _MIB
        return found

    def _listed(self, path: str) -> list[Item]:
        with status.answering():
            return status.listed(self.api, path)

    def _summary(self, node: str) -> Item:
        with status.answering():
            return status.read(self.api, f"/api/v1/nodes/{node}/proxy/stats/summary")


def _task(pod: Item) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner["kind"] == "Job" for owner in owners)


def folder_bytes(folder: Path) -> int:
    """Bytes on disk of all files below a folder."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(where) / name).lstat().st_blocks * 512
            except OSError:  # a file that a server has just removed
                continue
    return total


def parts(
    pods: Iterable[Item],
    before: Mapping[str, Item],
    after: Mapping[str, Item],
    images: Mapping[str, float],
    volumes: Mapping[str, float],
) -> list[Part]:
    """Figures by part, in the order of their names. Pods that began or ended meanwhile have no CPU usage."""
    found: dict[str, Part] = {}
    for pod in pods:
        name, meta = status.part_of(pod) or "", pod["metadata"]
        part = found.setdefault(name, Part(name))
        part.pods += 1
        old, new = before.get(meta["name"]), after.get(meta["name"])
        part.cpu_m += _cpu_m(old, new)
        part.memory_mib += ((new or {}).get("memory") or {}).get("workingSetBytes", 0) / _MIB
        part.disk_mib += sum(_disk_mib(volume, volumes) for volume in (new or {}).get("volume", []))
        part.images |= {one: images[one] for one in _images(pod) if one in images}
        start = _start_s(pod)
        part.start_s = max((s for s in (part.start_s, start) if s is not None), default=None)
    return [found[name] for name in sorted(found)]


def _cpu_m(old: Item | None, new: Item | None) -> float:
    if not old or not new or old["podRef"]["uid"] != new["podRef"]["uid"]:
        return 0.0
    first, last = old.get("cpu") or {}, new.get("cpu") or {}
    try:
        elapsed_s = (_time(last["time"]) - _time(first["time"])).total_seconds()
        used_ns = last["usageCoreNanoSeconds"] - first["usageCoreNanoSeconds"]
    except KeyError:
        return 0.0
    return used_ns / 1e9 / elapsed_s * 1000 if elapsed_s > 0 and used_ns >= 0 else 0.0


def _disk_mib(volume: Item, volumes: Mapping[str, float]) -> float:
    claim = volume.get("pvcRef")
    if not claim:
        return 0.0
    return volumes.get(claim["name"], volume.get("usedBytes", 0) / _MIB)


def _images(pod: Item) -> set[str]:
    """Names of the images of a pod's containers."""
    spec = pod["spec"]
    return {container["image"] for container in [*spec.get("initContainers", []), *spec["containers"]]}


def _start_s(pod: Item) -> float | None:
    """Seconds from the last start of a container until the pod was ready; None while it is not."""
    state = pod["status"]
    ready = [one for one in state.get("conditions", []) if one["type"] == "Ready" and one["status"] == "True"]
    started = [((one.get("state") or {}).get("running") or {}).get("startedAt") for one in state["containerStatuses"]]
    if not ready or not all(started):
        return None
    begun = max(_time(str(one)) for one in started)
    return max(0.0, (_time(ready[0]["lastTransitionTime"]) - begun).total_seconds())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def document(found: Footprint, telemetry: list[documents.TelemetryVolume]) -> documents.FootprintDocument:
    """The figures as a JSON document."""
    return documents.FootprintDocument(
        stack=found.stack,
        profile=found.profile.value if found.profile else None,
        seconds=found.seconds,
        image_mib=round(found.image_mib),
        parts=[
            documents.PartFootprint(
                name=part.name,
                pods=part.pods,
                cpu_millicores=round(part.cpu_m),
                memory_mib=round(part.memory_mib),
                disk_mib=round(part.disk_mib),
                image_mib=round(part.image_mib),
                start_seconds=None if part.start_s is None else round(part.start_s),
            )
            for part in found.parts
        ],
        telemetry=telemetry,
    )


_COLUMNS: Mapping[str, Callable[[documents.PartFootprint], int | None]] = {
    "pods": lambda part: part.pods,
    "CPU m": lambda part: part.cpu_millicores,
    "memory MiB": lambda part: part.memory_mib,
    "disk MiB": lambda part: part.disk_mib,
    "image MiB": lambda part: part.image_mib,
    "start s": lambda part: part.start_seconds,
}


def rows(found: documents.FootprintDocument) -> list[list[str]]:
    """The figures as rows of text: a head, the parts, totals."""
    lines = [["part", *_COLUMNS]]
    for part in found.parts:
        lines.append([part.name, *("" if (n := take(part)) is None else str(n) for take in _COLUMNS.values())])
    totals = {name: sum(take(part) or 0 for part in found.parts) for name, take in _COLUMNS.items()}
    totals |= {"image MiB": found.image_mib}
    return [*lines, ["total", *("" if name == "start s" else str(total) for name, total in totals.items())]]


RATES = (10, 100, 1000)
"""Requests per second for which the volume of telemetry is shown."""


def daily_mib(one: documents.TelemetryVolume, rate: int) -> float:
    """MiB of telemetry a day at this many requests per second."""
    return (one.idle_bytes_per_second + one.bytes_per_request * rate) * 86_400 / _MIB


def telemetry_rows(found: documents.FootprintDocument) -> list[list[str]]:
    """Telemetry a day by signal and part as rows of text: a head, the parts, totals."""
    lines = [["signal", "part", *(f"MiB a day at {rate:,}/s" for rate in RATES)]]
    for one in found.telemetry:
        lines.append([one.signal, one.part, *(f"{daily_mib(one, rate):,.0f}" for rate in RATES)])
    totals = [sum(daily_mib(one, rate) for one in found.telemetry) for rate in RATES]
    return [*lines, ["total", "", *(f"{total:,.0f}" for total in totals)]]


def show(found: documents.FootprintDocument) -> None:
    """Print the figures as tables."""
    _print(f"{found.stack}, {f'profile {found.profile}' if found.profile else 'without a profile'}", rows(found), 1)
    if found.telemetry:
        output.console.print()
        _print("Telemetry", telemetry_rows(found), 2)


def _print(title: str, lines: list[list[str]], names: int) -> None:
    """Print rows as a table. The first `names` columns are text."""
    head, *rest = lines
    view = output.table(*head, title=title, right=set(head[names:]))
    for row in rest:
        view.add_row(*row)
    output.console.print(view)


def save(found: documents.FootprintDocument, file: Path) -> None:
    """Write the figures to a JSON file, in place of those of the same profile. Raises LocalError."""
    if found.profile is None:
        raise LocalError(
            f"{found.stack} has no profile; nothing was written", fix="run `forge up --profile core`, or another one"
        )
    try:
        kept = json.loads(file.read_text()) if file.exists() else {}
        kept[found.profile] = found.model_dump(mode="json")
        file.write_text(json.dumps({name: kept[name] for name in Profile if name in kept}, indent=1) + "\n")
    except (OSError, ValueError, TypeError) as error:
        raise LocalError(
            f"{file} cannot be written", reason=str(error), fix="name a JSON file that this command wrote"
        ) from None
