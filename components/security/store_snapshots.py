"""Snapshots of the secret store: a schedule saves them in the object store; one is saved at each change, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent
from components.config.security import Snapshots as SnapshotsConfig
from components.data.object_store import ObjectStore
from components.data.server import service_account
from components.data.task import TaskInputs
from components.inputs import LoginArgs
from components.pods import PodArgs
from components.security.store_rights import AUDIENCE
from components.security.store_rights import SNAPSHOTS_ACCOUNT as PART

CONTAINER = "snapshots"
DEADLINE_S = 300


class StoreSnapshotsArgs(TypedDict):
    """Inputs of the snapshots."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    """Image of the data tasks."""
    store: pulumi.Input[str]
    """URL of the secret store."""
    authority: pulumi.Input[str]
    """The certificate (PEM) that the secret store's certificate is checked against."""
    objects: ObjectStore
    """The object store, which has the bucket."""
    customize: PodArgs
    """Settings of the pods; empty: none."""
    login: LoginArgs | None
    """The login that owns the bucket; None where pods authenticate with an IAM role."""


class StoreSnapshotsResources(NamedTuple):
    """Resources of the snapshots."""

    schedule: k8s.batch.v1.CronJob
    first: k8s.batch.v1.Job


class StoreSnapshots(PlatformComponent):
    """A schedule, and a Job that saves a snapshot at each change and fails the update if that is not possible."""

    def __init__(
        self, name: str, config: SnapshotsConfig, args: StoreSnapshotsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("security", name, {"every_hours": config.every_hours, "keep_days": config.keep_days}, opts)
        namespace, objects = args["namespace"], args["objects"]
        account = service_account(name, namespace, PART, self.child(), objects.annotations.get(PART))
        task = _task(config, args)
        own = task.labels
        meta: Any = {"namespace": namespace, "labels": own}
        spec: Any = {"backoff_limit": 3, "active_deadline_seconds": DEADLINE_S, "template": task.template}
        first = k8s.batch.v1.Job(
            name, metadata=meta, spec=spec, opts=self.child(depends_on=[account], delete_before_replace=True)
        )
        schedule = k8s.batch.v1.CronJob(
            name,
            metadata={"name": PART, "namespace": namespace, "labels": own},
            spec={
                "schedule": f"17 */{config.every_hours} * * *",
                "time_zone": "Etc/UTC",
                # Two at once would only make two snapshots; one that hangs must not hold back the next.
                "concurrency_policy": "Replace",
                "starting_deadline_seconds": 1800,
                "successful_jobs_history_limit": 1,
                "failed_jobs_history_limit": 1,
                "job_template": {"metadata": {"labels": own}, "spec": spec},
            },
            opts=self.child(depends_on=[account]),
        )
        self.resources = StoreSnapshotsResources(schedule, first)
        self.finish(
            {
                "kind": "Job",
                "namespace": namespace,
                "name": first.metadata["name"],
                "probe": "a snapshot is saved and read back",
            }
        )


def _task(config: SnapshotsConfig, args: StoreSnapshotsArgs) -> TaskInputs:
    """What saves a snapshot."""
    objects, login = args["objects"], args["login"]
    place: Mapping[str, str] = objects.place
    provision = {
        "bucket": f"{place.get('PREFIX', '')}{PART}",
        "by_role": objects.by_role,
        "keep_days": config.keep_days,
        **place,
    }
    return TaskInputs(
        namespace=args["namespace"],
        image=args["image"],
        arguments=("snapshots",),
        part=PART,
        name=PART,
        customize=args["customize"],
        layer="security",
        container=CONTAINER,
        environment={
            "ENDPOINT": objects.endpoint,
            "PROVISION": json.dumps(provision),
            "STORE_ADDRESS": args["store"],
            "STORE_AUTHORITY": args["authority"],
        },
        audiences=(AUDIENCE,),
        mounts={f"/etc/credentials/{PART}": login["secret_name"]} if login else {},
        versions=(login.get("version", ""),) if login else (),  # another password makes another snapshot
        memory=("128Mi", "128Mi"),  # a part of 10 MiB of the snapshot is in memory at a time
    )
