"""Operation for operators: the replicas that follow a service's key-value buckets, and the revisions they apply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from kit.directory import Scope
from kit.in_force import InForce
from kit.rest import Call, Model, Operation


class Replica(Model):
    """A replica that follows a bucket."""

    bucket: str
    service: str
    instance: str
    revision: int = Field(description="The bucket's last revision that the replica has applied.")
    written: int = Field(description="The bucket's last revision, at most some seconds old; 0 means unknown.")
    rejected: dict[str, str] = Field(description="Reason by key for values that the replica rejects.")


class Replicas(Model):
    """All replicas."""

    data: list[Replica]


def listed(in_force: InForce) -> Replicas:
    """The last reports of all replicas."""
    found = [(bucket, *one) for bucket in in_force.buckets for one in in_force.reports(bucket)]
    return Replicas(
        data=[
            Replica(
                bucket=bucket,
                service=service,
                instance=report.instance,
                revision=report.revision,
                written=in_force.written(bucket),
                rejected=report.rejected,
            )
            for bucket, service, report in found
        ]
    )


class _Own:
    def __init__(self, in_force: InForce | None) -> None:
        self._in_force = in_force

    async def list(self, _: Call[Any, None]) -> Replicas:
        """The list is empty without NATS."""
        return listed(self._in_force) if self._in_force else Replicas(data=[])


def operations(prefix: str, in_force: InForce | None = None) -> Sequence[Operation]:
    """The operation under a service's prefix. Without `in_force` it lists no replicas."""
    own: Any = _Own(in_force)
    return [
        Operation("GET", f"{prefix}/replicas", "List the revisions that replicas have applied.", own.list,
                  Replicas, scope=Scope.ADMIN),
    ]  # fmt: skip
