"""Object store for backups and uploaded documents: Versity's S3 gateway with a volume, or Amazon S3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import pulumi

from components.base import PlatformComponent
from components.cluster.aws_site import ANYWHERE, AwsSite, outlet
from components.config.data import ObjectStore as ObjectStoreConfig
from components.config.managed import S3 as S3Config
from components.data import exporter
from components.data.s3 import S3
from components.data.server import (
    DATA_MOUNT,
    DataServer,
    Process,
    ServerInputs,
    ServerIntent,
    service_account,
    task_name,
)
from components.data.task import DataTask, TaskInputs
from components.pods import CustomizeArgs
from components.security.logins import Logins
from components.services.registry import SERVICES

PART = "object-store"
PORT = 7070
OWNER = "objects"
"""Superuser login. Only setup tasks use it."""


class ObjectStoreArgs(CustomizeArgs):
    """Inputs of an object store."""

    namespace: str
    image: pulumi.Input[str]
    tasks_image: pulumi.Input[str]
    """Image that contains the kit."""
    exporters_image: pulumi.Input[str]
    logins: Logins
    owners: dict[str, str]
    """Owner (login) of each bucket that does not belong to a service."""
    site: AwsSite | None
    """Network with access to S3; required with `s3` in the configuration."""
    prefix: str
    """Prefix of bucket names in S3."""
    destroy_data: bool


class ObjectStoreResources(NamedTuple):
    """Resources of an object store."""

    server: DataServer | None
    """In a pod."""
    s3: S3 | None
    """In Amazon S3."""
    provision: DataTask
    """Makes buckets and checks them."""


class ObjectStore(PlatformComponent):
    """Buckets, each with an owner, and a check that writes and reads an object."""

    endpoint: pulumi.Output[str]
    """URL. It resolves once the buckets exist."""
    by_role: bool
    """Whether pods authenticate with an IAM role instead of a password."""
    annotations: Mapping[str, Mapping[str, pulumi.Input[str]]]
    """Annotations that each owner's service account needs."""
    place: Mapping[str, str]
    """Environment variables with the bucket prefix (PREFIX) and the REGION, if they differ from the defaults."""
    server: DataServer | None

    def __init__(
        self,
        name: str,
        config: ObjectStoreConfig,
        args: ObjectStoreArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("data", name, {"storage": config.storage}, opts)
        self.by_role, self.annotations, self.place, self.server = config.s3 is not None, {}, {}, None
        self._s3: S3 | None = None
        owners = buckets(args["owners"])
        endpoint = self._in_s3(config.s3, args, owners) if config.s3 else self._in_pod(config, args, owners)
        users = [] if self.by_role else [OWNER, *sorted(set(owners.values()))]
        logins = args["logins"]
        provisioned = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                image=args["tasks_image"],
                arguments=("objects",),
                part=PART,
                environment={
                    "ENDPOINT": endpoint,
                    "PROVISION": json.dumps({"buckets": owners, "by_role": self.by_role, **self.place}),
                },
                mounts={f"/etc/credentials/{user}": logins.secret(user) for user in users},
                versions=tuple(logins.versions[user] for user in users),
            ),
            self.child(),
        )
        self.resources = ObjectStoreResources(self.server, self._s3, provisioned)
        self.endpoint = pulumi.Output.all(endpoint, provisioned.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "Job" if self.by_role else "StatefulSet",
                "namespace": args["namespace"],
                "name": provisioned.done if self.by_role else PART,
                "probe": "an object is written and read",
            },
            endpoint=self.endpoint,
        )

    def _in_s3(self, config: S3Config, args: ObjectStoreArgs, owners: dict[str, str]) -> pulumi.Output[str]:
        """Buckets in S3, IAM roles for their owners, and egress to S3 for the owners' pods."""
        site = args["site"]
        assert site is not None  # the configuration takes s3 with a cluster on AWS only
        task = task_name(PART)
        self._s3 = made = S3(
            self.name,
            config,
            {
                "site": site,
                "namespace": args["namespace"],
                "prefix": args["prefix"],
                "owners": owners,
                "prover": task,
                "destroy_data": args["destroy_data"],
            },
            self.child(providers={"aws": site.provider}),
        )
        self.annotations, self.place = made.annotations, {"PREFIX": args["prefix"], "REGION": site.region}
        service_account(f"{self.name}-task", args["namespace"], task, self.child(), made.annotations[task])
        pods = (task, *owners.values())
        outlet(f"{self.name}-outlet", (args["namespace"], f"{PART}-outlet"), pods, (ANYWHERE, 443), self.child())
        return pulumi.Output.all(*made.ready).apply(lambda _: f"https://s3.{site.region}.amazonaws.com")

    def _in_pod(self, config: ObjectStoreConfig, args: ObjectStoreArgs, owners: dict[str, str]) -> pulumi.Output[str]:
        """A server pod with a volume."""
        logins = args["logins"]
        flags = ("--port", f":{PORT}", "--health", "/healthz", "--quiet", "--iam-dir", f"{DATA_MOUNT}/accounts")
        told = ("--metrics-service-name", PART, "--metrics-statsd-servers", f"127.0.0.1:{exporter.STATSD}")
        self.server = DataServer(
            self.name,
            ServerIntent(
                name=PART,
                title="S3 gateway",
                processes=(
                    Process(
                        PART,
                        args["image"],
                        config.resources,
                        (*flags, *told, "posix", f"{DATA_MOUNT}/buckets"),
                        {"s3": PORT},
                        {"ROOT_ACCESS_KEY_ID": OWNER},
                        {"ROOT_SECRET_ACCESS_KEY": (logins.secret(OWNER), "objects")},
                        ready={"http_get": {"path": "/healthz", "port": "s3"}},
                    ),
                    exporter.statsd(args["exporters_image"]),
                ),
                callers=(*sorted(set(owners.values())), task_name(PART)),
                storage=config.storage,
                metrics_port=exporter.STATSD_PORT,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                destroy_data=args["destroy_data"],
                versions=[logins.versions[OWNER]],
            ),
            self.child(),
        )
        return self.server.host.apply(lambda host: f"http://{host}:{PORT}")


def buckets(more: dict[str, str]) -> dict[str, str]:
    """Owner of each bucket, by bucket."""
    return {b: s.name for s in SERVICES.values() for b in s.buckets} | more
