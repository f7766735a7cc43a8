"""Waits for objects until they are ready or deleted."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from local.providers.kubernetes import objects, readiness
from local.providers.kubernetes.cluster import ApiError, Cluster, NotFound, Object, Unreachable
from local.providers.server import InitFailed, Log, ProviderError

DEFAULT_TIMEOUT_S = 600.0
POLL_S = 0.5


@dataclass(frozen=True)
class Place:
    """Address of an object: its kind, namespace and name."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    @classmethod
    def of(cls, manifest: Object) -> Place:
        """Address of a manifest or a live object."""
        meta = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], meta.get("namespace"), meta["name"])

    def get(self, cluster: Cluster) -> Object:
        """Read the object. Raises NotFound."""
        return cluster.get(self.api_version, self.kind, self.namespace, self.name)

    def delete(self, cluster: Cluster, propagation: str) -> None:
        """Request its deletion. Raises NotFound."""
        cluster.delete(self.api_version, self.kind, self.namespace, self.name, propagation)


@dataclass(frozen=True)
class Waiter:
    """Waits for an object of one resource, and shows progress to the user."""

    cluster: Cluster
    log: Log
    cancelled: threading.Event
    urn: str
    timeout_s: float
    """Timeout from the program's `custom_timeouts`, in seconds; 0 means none."""

    def gone(self, place: Place) -> None:
        """Wait until the object is deleted. Raises ProviderError with the obstacle."""
        uid = None
        deadline = time.monotonic() + (self.timeout_s or DEFAULT_TIMEOUT_S)
        while time.monotonic() < deadline and not self.cancelled.is_set():
            try:
                live = place.get(self.cluster)
            except NotFound:
                return
            uid = uid or live["metadata"]["uid"]
            if live["metadata"]["uid"] != uid:
                return  # a new object has the name
            holders = ", ".join(live["metadata"].get("finalizers") or []) or "its dependents"
            self.log.status(self.urn, f"waiting for {holders}")
            self.cancelled.wait(POLL_S)
        what = f"{place.kind} {place.name}"
        raise ProviderError(f"{what} is not deleted yet: finalizers or dependents block it; try again later")

    def ready(self, identifier: str, live: Object, inputs: dict[str, Any]) -> Object:
        """Wait until the object is ready, and return it. Raises InitFailed with the reasons if it does not."""
        if readiness.skipped(live):
            return live
        limit = (live["metadata"].get("annotations") or {}).get(readiness.TIMEOUT)
        seconds = self.timeout_s or float(limit or DEFAULT_TIMEOUT_S)
        deadline = time.monotonic() + seconds
        place = Place.of(live)
        said: set[str] = set()
        shown = ""
        state = readiness.State(False)
        while True:
            try:
                live = place.get(self.cluster)
                state = readiness.look(self.cluster, live)
            except (ApiError, Unreachable) as error:
                state = readiness.State(False, f"cannot read it: {error}")
            if state.ready:
                return live
            for problem in (p for p in state.problems if p not in said):
                said.add(problem)
                self.log.warning(self.urn, problem)
            if state.progress != shown:
                shown = state.progress
                self.log.status(self.urn, shown)
            if state.failed or time.monotonic() > deadline or self.cancelled.is_set():
                break
            self.cancelled.wait(POLL_S)
        cause = state.failed or ("interrupted" if self.cancelled.is_set() else f"not ready after {seconds:.0f} s")
        reasons = [f"{live['kind']} {identifier}: {cause}" + (f" ({state.progress})" if state.progress else "")]
        reasons += state.problems + readiness.warning_events(self.cluster, live)
        raise InitFailed(identifier, objects.outputs_of(live, inputs), inputs, reasons)
