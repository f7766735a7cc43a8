"""Snapshots of the secret store: a schedule saves them in the object store; one is saved at each change, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.ai import service_identity
from components.ai.service import restricted
from components.base import PlatformComponent, labels
from components.config.security import Snapshots as SnapshotsConfig
from components.data.object_store import ObjectStore
from components.data.server import service_account
from components.inputs import LoginArgs
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
        template = _template(config, args)
        own = labels(PART, "security")
        meta: Any = {"namespace": namespace, "labels": own}
        spec: Any = {"backoff_limit": 3, "active_deadline_seconds": DEADLINE_S, "template": template}
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


def _template(config: SnapshotsConfig, args: StoreSnapshotsArgs) -> Any:
    """Pod template of the task."""
    objects, login = args["objects"], args["login"]
    place: Mapping[str, str] = objects.place
    provision = {
        "bucket": f"{place.get('PREFIX', '')}{PART}",
        "by_role": objects.by_role,
        "keep_days": config.keep_days,
        **place,
    }
    environment: dict[str, pulumi.Input[str]] = {
        "ENDPOINT": objects.endpoint,
        "PROVISION": json.dumps(provision),
        "STORE_ADDRESS": args["store"],
        "STORE_AUTHORITY": args["authority"],
    }
    mounts: list[Any] = [{"name": "tmp", "mount_path": "/tmp"}, service_identity.mount()]
    volumes: list[Any] = [
        {"name": "tmp", "empty_dir": {"size_limit": "16Mi"}},
        service_identity.volume([AUDIENCE], answers=False),
    ]
    if login:
        environment["VERSIONS"] = login.get("version", "")  # another password makes another snapshot
        mounts.append({"name": "login", "mount_path": f"/etc/credentials/{PART}", "read_only": True})
        volumes.append({"name": "login", "secret": {"secret_name": login["secret_name"]}})
    container: Any = {
        "name": CONTAINER,
        "image": args["image"],
        "args": ["snapshots"],
        "env": [{"name": key, "value": value} for key, value in sorted(environment.items())],
        # A part of 10 MiB of the snapshot is in memory at a time.
        "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "128Mi"}},
        "security_context": restricted(),
        "volume_mounts": mounts,
    }
    pod: Any = {
        "restart_policy": "Never",
        "service_account_name": PART,
        "automount_service_account_token": False,
        "enable_service_links": False,
        "containers": [container],
        "volumes": volumes,
    }
    return {"metadata": {"labels": labels(PART, "security")}, "spec": pod}
