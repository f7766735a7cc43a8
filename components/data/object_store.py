"""An S3-compatible object store: Versity's gateway over a volume. Backups and uploaded documents."""

from __future__ import annotations

import json
from typing import TypedDict

import pulumi

from components.base import PlatformComponent
from components.config_data import ObjectStore as ObjectStoreConfig
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.intents import SERVICES
from components.security.logins import Logins

PART = "object-store"
PORT = 7070
OWNER = "objects"
"""The login that may do everything; only tasks use it."""


class ObjectStoreArgs(TypedDict):
    """Inputs of an object store."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    tasks_image: pulumi.Input[str]
    """An image with the kit in it."""
    logins: Logins
    owners: dict[str, str]
    """Buckets beside the services', each with the login that owns it."""
    destroy_data: bool


class ObjectStore(PlatformComponent):
    """A server, its buckets, each with its owner, and the proof that an object can be written and read."""

    endpoint: pulumi.Output[str]
    """URL inside the cluster, known once the buckets are there."""

    def __init__(
        self,
        name: str,
        config: ObjectStoreConfig,
        args: ObjectStoreArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("data", name, {"storage": config.storage}, opts)
        logins, owners = args["logins"], buckets(args["owners"])
        users = sorted(set(owners.values()))
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=PART,
                title="S3 gateway",
                processes=(
                    Process(
                        PART,
                        args["image"],
                        config.resources,
                        (
                            "--port",
                            f":{PORT}",
                            "--health",
                            "/healthz",
                            "--quiet",
                            "--iam-dir",
                            f"{DATA_MOUNT}/accounts",
                            "posix",
                            f"{DATA_MOUNT}/buckets",
                        ),
                        {"s3": PORT},
                        {"ROOT_ACCESS_KEY_ID": OWNER},
                        {"ROOT_SECRET_ACCESS_KEY": (logins.secret(OWNER), "objects")},
                        ready={"http_get": {"path": "/healthz", "port": "s3"}},
                    ),
                ),
                callers=(*users, task_name(PART)),
                storage=config.storage,
            ),
            ServerInputs(
                namespace=args["namespace"], destroy_data=args["destroy_data"], versions=[logins.versions[OWNER]]
            ),
            self.child(),
        )
        endpoint = server.host.apply(lambda host: f"http://{host}:{PORT}")
        provisioned = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=args["namespace"],
                image=args["tasks_image"],
                arguments=("objects",),
                part=PART,
                environment={"ENDPOINT": endpoint, "PROVISION": json.dumps({"buckets": owners})},
                mounts={f"/etc/credentials/{user}": logins.secret(user) for user in (OWNER, *users)},
                versions=tuple(logins.versions[user] for user in (OWNER, *users)),
            ),
            self.child(),
        )
        self.endpoint = pulumi.Output.all(endpoint, provisioned.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": PART,
                "probe": "an object is written and read",
            },
            endpoint=self.endpoint,
        )


def buckets(more: dict[str, str]) -> dict[str, str]:
    """The owner of each bucket."""
    return {b: s.service for s in SERVICES.values() for b in s.buckets} | more
