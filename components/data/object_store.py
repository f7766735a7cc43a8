"""Object store for backups and uploaded documents: Versity's S3 gateway with a volume, or Amazon S3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components import secret_files
from components.base import PlatformComponent
from components.cluster.aws_site import ANYWHERE, AwsSite, AwsSiteArgs, outlet
from components.config.base import DnsLabel
from components.config.data import ObjectStore as ObjectStoreConfig
from components.config.managed import S3 as S3Config
from components.config.problems import violation
from components.data import exporter
from components.data.credentials import Credentials
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
from components.inputs import AnyText, LoginArgs, ResourcesArgs, Server, ServerArgs, Text, checked

PART = "object-store"
PORT = 7070
OWNER = "objects"
"""Superuser login. Only setup tasks use it."""


class S3Settings(TypedDict):
    """Amazon S3 in place of a pod."""

    keep_versions_days: NotRequired[int]
    """For how many days overwritten and deleted objects can be restored. Default 30."""


class ObjectStoreArgs(ServerArgs):
    """Inputs of an object store."""

    image: NotRequired[pulumi.Input[str]]
    """The S3 gateway's image, by digest; not needed with `s3`."""
    tasks_image: pulumi.Input[str]
    """Image of the task that makes buckets, by digest."""
    exporters_image: NotRequired[pulumi.Input[str]]
    """Image of the metrics exporter, by digest; not needed with `s3`."""
    buckets: NotRequired[Mapping[str, str]]
    """The login that owns each bucket. Pods with the label app.kubernetes.io/name of this value may connect."""
    storage: NotRequired[str]
    """Volume of the server, a Kubernetes quantity. Default "20Gi"."""
    resources: NotRequired[ResourcesArgs]
    """Of the server."""
    s3: NotRequired[S3Settings]
    """Amazon S3 in place of a pod; needs `site`."""
    site: NotRequired[AwsSiteArgs]
    """Where on AWS the buckets are."""
    prefix: NotRequired[str]
    """The names of buckets in S3 begin with this: they are unique in all of AWS. Default: the component's name."""


class ObjectStoreInputs(Server, ObjectStoreConfig):
    """What `ObjectStoreArgs` may hold."""

    image: AnyText = Field(default="", description="The S3 gateway's image, by digest; not needed with s3")
    tasks_image: Text = Field(description="Image of the task that makes buckets, by digest")
    exporters_image: AnyText = Field(default="", description="Image of the metrics exporter, by digest")
    buckets: dict[DnsLabel, DnsLabel] = Field(
        default_factory=dict[str, str], description="The login that owns each bucket"
    )
    site: AwsSite | None = Field(default=None, description="Where on AWS the buckets are")
    prefix: str | None = Field(
        default=None, max_length=40, description="The names of buckets in S3 begin with this; default: the name"
    )

    @model_validator(mode="after")
    def _runs_somewhere(self) -> Self:
        if self.s3 and self.site is None:
            raise violation("with s3, site is required", "add site, or remove s3")
        if not self.s3 and (not self.image or not self.exporters_image):
            raise violation("without s3, image and exporters_image are required", "add both, by digest")
        return self

    @model_validator(mode="after")
    def _owner_is_reserved(self) -> Self:
        if OWNER in self.buckets.values():
            raise violation(f'"{OWNER}" is the login of tasks, and owns no bucket', "choose another owner")
        return self


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
    credentials: dict[str, LoginArgs]
    """The Secret of each owner, whose entry "objects" is the password; none with `s3`."""
    by_role: bool
    """Whether pods authenticate with an IAM role instead of a password."""
    annotations: Mapping[str, Mapping[str, pulumi.Input[str]]]
    """Annotations that each owner's service account needs."""
    place: Mapping[str, str]
    """Environment variables with the bucket prefix (PREFIX) and the REGION, if they differ from the defaults."""
    server: DataServer | None

    def __init__(self, name: str, args: ObjectStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._inputs = inputs = checked(ObjectStoreInputs, self, name, args)
        super().__init__("data", name, {"storage": inputs.storage}, opts)
        part = inputs.kubernetes_name
        self._s3: S3 | None = None
        self.by_role, self.annotations, self.place, self.server = inputs.s3 is not None, {}, {}, None
        users = [] if self.by_role else [OWNER, *sorted(set(inputs.buckets.values()))]
        logins = Credentials(self, inputs, {user: ["objects"] for user in users})
        self.credentials = logins.logins
        endpoint = self._in_s3(inputs.s3) if inputs.s3 else self._in_pod(logins)
        provisioned = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.tasks_image,
                arguments=("objects",),
                part=part,
                environment={
                    "ENDPOINT": endpoint,
                    "PROVISION": json.dumps({"buckets": inputs.buckets, "by_role": self.by_role, **self.place}),
                },
                mounts=logins.mounts(*users),
                versions=logins.versions(*users),
            ),
            self.child(),
        )
        self.resources = ObjectStoreResources(self.server, self._s3, provisioned)
        self.endpoint = pulumi.Output.all(endpoint, provisioned.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "Job" if self.by_role else "StatefulSet",
                "namespace": inputs.namespace,
                "name": provisioned.done if self.by_role else part,
                "probe": "an object is written and read",
            },
            endpoint=self.endpoint,
        )

    def _in_s3(self, config: S3Config) -> pulumi.Output[str]:
        """Buckets in S3, IAM roles for their owners, and egress to S3 for the owners' pods."""
        inputs, site = self._inputs, self._inputs.site
        assert site is not None  # the inputs are refused without
        task, part = task_name(inputs.kubernetes_name), inputs.kubernetes_name
        prefix = f"{self.name}-" if inputs.prefix is None else inputs.prefix
        self._s3 = made = S3(
            self.name,
            config,
            {
                "site": site,
                "namespace": inputs.namespace,
                "prefix": prefix,
                "owners": inputs.buckets,
                "prover": task,
                "destroy_data": inputs.destroy_data,
            },
            self.child(),
        )
        self.annotations, self.place = made.annotations, {"PREFIX": prefix, "REGION": site.region}
        service_account(f"{self.name}-task", inputs.namespace, task, self.child(), made.annotations[task])
        pods = (task, *inputs.buckets.values())
        outlet(f"{self.name}-outlet", (inputs.namespace, f"{part}-outlet"), pods, (ANYWHERE, 443), self.child())
        return pulumi.Output.all(*made.ready).apply(lambda _: f"https://s3.{site.region}.amazonaws.com")

    def _in_pod(self, logins: Credentials) -> pulumi.Output[str]:
        """A server pod with a volume."""
        inputs, part = self._inputs, self._inputs.kubernetes_name
        root = ("--access", OWNER, "--secret-file", secret_files.path("root"))
        flags = ("--port", f":{PORT}", "--health", "/healthz", "--quiet", "--iam-dir", f"{DATA_MOUNT}/accounts")
        metrics = ("--metrics-service-name", part, "--metrics-statsd-servers", f"127.0.0.1:{exporter.STATSD}")
        self.server = DataServer(
            self.name,
            ServerIntent(
                name=part,
                title="S3 gateway",
                folder=PART,
                processes=(
                    Process(
                        PART,
                        inputs.image,
                        inputs.resources,
                        (*root, *flags, *metrics, f"{DATA_MOUNT}/buckets"),
                        {"s3": PORT},
                        secrets={"root": (logins.secret(OWNER), "objects")},
                        ready={"http_get": {"path": "/healthz", "port": "s3"}},
                    ),
                    exporter.statsd(inputs.exporters_image),
                ),
                callers=(*sorted(set(inputs.buckets.values())), task_name(part)),
                storage=inputs.storage,
                metrics_port=exporter.STATSD_PORT,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=inputs.destroy_data,
                versions=logins.versions(OWNER),
            ),
            self.child(),
        )
        return self.server.host.apply(lambda host: f"http://{host}:{PORT}")
