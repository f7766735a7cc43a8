"""A simulated AWS account in a folder: resources, quotas, and injected failures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from components.cluster.gpu_models import INSTANCES
from local.providers.server import ProviderError

Values = dict[str, Any]
_DEFAULT_QUOTAS = {"vpcs": 5, "eips": 5, "clusters": 100, "L-417A185B": 0, "L-DB2E81BA": 0}
"""Quotas of a new account in a region. Source: the Service Quotas console of a new account."""
_LOOSE = {"ec2/routeTableAssociation:RouteTableAssociation"}


class Throttled(Exception):
    """AWS throttles the call; the client must retry."""


class Account:
    """Content of the account. Each resource is a file, so that tests can read it and simulate drift."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")

    def _file(self, kind: str, identity: str) -> Path:
        digest = hashlib.sha256(f"{kind}\n{identity}".encode()).hexdigest()[:16]
        return self.folder / f"{kind.rpartition(':')[2]}-{digest}.json"

    def everything(self) -> Iterator[Values]:
        """All resources as {"kind", "id", "properties", "unseen"}."""
        for file in sorted(self.folder.glob("*-*.json")):
            yield json.loads(file.read_text())

    def put(self, kind: str, identity: str, properties: Values, *, new: bool = False, token: str = "") -> None:
        """Create or change a resource. `token` identifies the creator, like AWS' client tokens.

        Raises ProviderError if the name exists or a quota is exhausted.
        """
        with self._lock:
            file = self._file(kind, identity)
            before = json.loads(file.read_text()) if file.exists() else {}
            if new and before:
                raise ProviderError(f"ResourceInUseException: {kind} {identity} exists already")
            # Reads are eventually consistent: the first ones after a create do not return the resource.
            unseen = int(self._settings("lag.json").get(kind, 0)) if new else 0
            record = {"kind": kind, "id": identity, "properties": properties, "unseen": unseen}
            _write(file, {**record, "token": token or before.get("token", "")})

    def created(self, kind: str, token: str, recorded: set[str]) -> str | None:
        """ID of a resource that was created with this token and is not in `recorded`, or None."""
        with self._lock:
            made = (r for r in self.everything() if token and r["kind"] == kind and r.get("token") == token)
            return next((str(r["id"]) for r in made if r["id"] not in recorded), None)

    def get(self, kind: str, identity: str) -> Values | None:
        """Properties of a resource, or None."""
        with self._lock:
            file = self._file(kind, identity)
            if not file.exists():
                return None
            record = json.loads(file.read_text())
            if record["unseen"] > 0:
                record["unseen"] -= 1
                _write(file, record)
                return None
            return record["properties"]

    def remove(self, kind: str, identity: str) -> None:
        """Delete a resource. Raises ProviderError while other resources use it."""
        with self._lock:
            file = self._file(kind, identity)
            if not file.exists():
                return
            users = [r for r in self.everything() if r["id"] != identity and _uses(r, kind, identity)]
            if users:
                named = ", ".join(sorted(f"{r['kind'].rpartition(':')[2]} {r['id']}" for r in users))
                raise ProviderError(f"DependencyViolation: {identity} cannot be deleted while it is used by {named}")
            if json.loads(file.read_text())["properties"].get("deletionProtection"):
                raise ProviderError(f"InvalidRequestException: deletion protection is on for {identity}")
            file.unlink()

    def refuse_over_quota(self, kind: str, quota: str, properties: Values) -> None:
        """Raise ProviderError if a new resource would exceed a quota."""
        quotas = {**_DEFAULT_QUOTAS, **self._settings("quotas.json")}
        if quota:
            used = sum(1 for r in self.everything() if r["kind"] == kind)
            if used >= quotas[quota]:
                raise ProviderError(f"LimitExceeded: the account has {used} of {quotas[quota]} {quota} in this region")
        if kind.endswith(":NodeGroup"):
            self._refuse_vcpus(quotas, properties)

    def _refuse_vcpus(self, quotas: Values, properties: Values) -> None:
        wanted: dict[str, int] = {}
        groups = [r["properties"] for r in self.everything() if r["kind"].endswith(":NodeGroup")]
        for group in [*groups, properties]:
            instance = INSTANCES.get((group.get("instanceTypes") or [""])[0])
            if instance and group.get("capacityType") != "SPOT":
                size = int(group["scalingConfig"]["desiredSize"])
                wanted[instance.quota.value] = wanted.get(instance.quota.value, 0) + size * instance.vcpus
        for code, vcpus in wanted.items():
            if vcpus > quotas[code]:
                raise ProviderError(
                    f"VcpuLimitExceeded: {vcpus} vCPUs requested, quota {code} allows {quotas[code]}; "
                    "lower the pool's nodes, or ask AWS for more"
                )

    def failure(self, verb: str, kind: str, name: str) -> str | None:
        """Return and remove the next matching injected failure: "throttle", "partial", "denied" or None."""
        with self._lock:
            file = self.folder / "failures.json"
            failures: list[Values] = json.loads(file.read_text()) if file.exists() else []
            for entry in failures:
                fits = entry["verb"] == verb and entry["kind"] in kind and entry.get("name", "") in name
                if fits and entry["times"] > 0:
                    entry["times"] -= 1
                    _write(file, failures)
                    return str(entry["failure"])
        return None

    def _settings(self, name: str) -> Values:
        file = self.folder / name
        return json.loads(file.read_text()) if file.exists() else {}


def _write(file: Path, content: Any) -> None:
    """Write a file atomically, so that a killed engine leaves no partial file."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.replace(file)


def _uses(record: Values, kind: str, identity: str) -> bool:
    """Whether AWS would refuse to delete `identity` because this resource uses it."""
    if record["kind"] in _LOOSE:
        return False
    owners = {
        "ec2/vpc:Vpc": ("vpcId",),
        "ec2/subnet:Subnet": ("subnetId", "subnetIds"),
        "iam/role:Role": ("role",),
        "eks/cluster:Cluster": ("clusterName",) if record["kind"] == "eks/nodeGroup:NodeGroup" else (),
    }.get(kind, ())
    properties = record["properties"]
    return any(
        identity == properties.get(o) or identity in (properties.get(o) or []) for o in owners if o in properties
    )
