"""Inputs of a PostgreSQL cluster and its databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components.cluster.aws_site import AwsSite, AwsSiteArgs
from components.config.base import DnsLabel, first_duplicate, matching
from components.config.data import Postgres
from components.config.problems import violation
from components.inputs import AnyText, Inputs, ResourcesArgs, Server, ServerArgs, Text
from components.security.store_names import ISSUER

SUPERUSER, CAPTURE = "postgres", "capture"
"""Logins beside the databases': the server's own, and change data capture's."""
Extension = Annotated[
    str, Field(max_length=60), matching(r"[a-z][a-z0-9_-]*", "the name of an extension", 'write it like "vector"')
]


class DatabaseArgs(TypedDict):
    """A database with a login of its own."""

    name: str
    """Name of the database, and of the login that owns it."""
    extensions: NotRequired[Sequence[str]]
    """PostgreSQL extensions in it, such as "vector"."""
    outbox: NotRequired[bool]
    """Whether change data capture sends what is written to its table events.outbox. Default false."""
    issued: NotRequired[bool]
    """Whether its owner cannot log in, and a secret store issues logins that act as the owner, with a login
    "secret-store" of its own. Default false."""


class BackupArgs(TypedDict):
    """When base backups are taken; the write-ahead log is archived continuously beside them."""

    every_hours: NotRequired[int]
    """Hours between base backups. Default 24."""
    keep_days: NotRequired[int]
    """Days that one can go back. Default 7."""


class BackupStoreArgs(TypedDict):
    """Where backups go. `ObjectStore` gives these values, for a bucket whose owner is the login "postgres"."""

    endpoint: pulumi.Input[str]
    """URL of the S3 API."""
    bucket: str
    """Name of the bucket, with its prefix."""
    region: NotRequired[str]
    """Region of the bucket. Default "us-east-1"."""
    by_role: NotRequired[bool]
    """Whether pods come with an AWS role in place of the password of the login "postgres" for "objects"."""
    annotations: NotRequired[Mapping[str, pulumi.Input[str]]]
    """What the server's service account carries, such as its AWS role."""


class RdsSettings(TypedDict):
    """Amazon RDS in place of a pod."""

    instance_class: str
    """Instance class, such as "db.r7g.xlarge"."""
    standby: NotRequired[bool]
    """A standby in another zone takes over (Multi-AZ). Default true."""


class PostgresClusterArgs(ServerArgs):
    """Inputs of a PostgreSQL cluster."""

    image: pulumi.Input[str]
    """PostgreSQL's image with the pool and the tasks, by digest."""
    exporters_image: NotRequired[pulumi.Input[str]]
    """Image of the metrics exporter, by digest; not needed with `rds`."""
    databases: Sequence[DatabaseArgs]
    """Databases, each with a login of its own; at least one."""
    checked_database: NotRequired[str]
    """The database in which the check writes a row. Default: the first."""
    capture: NotRequired[bool]
    """Whether there is a login "capture", which change data capture reads outboxes with. Default false."""
    callers: NotRequired[Sequence[str]]
    """Values of app.kubernetes.io/name whose pods may connect."""
    storage: NotRequired[str]
    """Volume of the server, a Kubernetes quantity. Default "10Gi"."""
    resources: NotRequired[ResourcesArgs]
    """Of the server."""
    max_connections: NotRequired[int]
    """Connections of the server. Default 100."""
    pool_size: NotRequired[int]
    """Server connections of each login through the pool; at most a quarter of max_connections. Default 10."""
    backup: NotRequired[BackupArgs]
    """When base backups are taken."""
    backup_store: NotRequired[BackupStoreArgs]
    """Where backups and the write-ahead log go; without one there is no backup."""
    rds: NotRequired[RdsSettings]
    """Amazon RDS in place of a pod; needs `site`. The pool runs in pods."""
    site: NotRequired[AwsSiteArgs]
    """Where on AWS RDS runs."""


class Database(Inputs):
    """A database."""

    name: DnsLabel = Field(description="Name of the database, and of the login that owns it")
    extensions: list[Extension] = Field(default_factory=list[str], description="PostgreSQL extensions in it")
    outbox: bool = Field(default=False, description="Change data capture sends rows of events.outbox")
    issued: bool = Field(default=False, description="Its owner cannot log in; a secret store issues logins")


class BackupStore(Inputs):
    """Where backups go."""

    endpoint: Text = Field(description="URL of the S3 API")
    bucket: str = Field(min_length=1, description="Name of the bucket, with its prefix")
    region: str = Field(default="us-east-1", description="Region of the bucket")
    by_role: bool = Field(default=False, description="Pods come with an AWS role in place of a password")
    annotations: dict[str, Text] = Field(
        default_factory=dict[str, str], description="What the server's service account carries"
    )


class PostgresInputs(Server, Postgres):
    """What `PostgresClusterArgs` may hold."""

    image: Text = Field(description="PostgreSQL's image with the pool and the tasks, by digest")
    exporters_image: AnyText = Field(default="", description="Image of the metrics exporter, by digest")
    databases: list[Database] = Field(min_length=1, description="Databases, each with a login of its own")
    checked_database: DnsLabel | None = Field(
        default=None, description="The database in which the check writes a row; default: the first"
    )
    capture: bool = Field(default=False, description='There is a login "capture" for change data capture')
    callers: list[DnsLabel] = Field(
        default_factory=list[str], description="Values of app.kubernetes.io/name whose pods may connect"
    )
    backup_store: BackupStore | None = Field(default=None, description="Where backups go; none: there are none")
    site: AwsSite | None = Field(default=None, description="Where on AWS RDS runs")

    @property
    def owners(self) -> list[str]:
        """The logins that own databases, and use the pool; first the one that the check uses."""
        names = [database.name for database in self.databases if not database.issued]
        return [name for name in names if name == self.checked] + [name for name in names if name != self.checked]

    @property
    def checked(self) -> str:
        """The database in which the check writes a row."""
        return self.checked_database or next((one.name for one in self.databases if not one.issued), "")

    @property
    def issuer(self) -> str:
        """The login of the secret store; empty if it issues none."""
        return ISSUER if any(database.issued for database in self.databases) else ""

    @model_validator(mode="after")
    def _runs_somewhere(self) -> Self:
        if self.rds and self.site is None:
            raise violation("with rds, site is required", "add site, or remove rds")
        if not self.rds and not self.exporters_image:
            raise violation("without rds, exporters_image is required", "add exporters_image, by digest")
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = (one.name for one in self.databases)
        if duplicate := first_duplicate((SUPERUSER, CAPTURE, *([self.issuer] if self.issuer else []), *names)):
            text = f'names of databases must be unique, and none of "{SUPERUSER}" and "{CAPTURE}"; "{duplicate}" is not'
            raise violation(text, "rename it")
        if self.rds and self.issuer:
            raise violation("with rds, no database is issued", "remove issued: the pool of RDS needs passwords")
        if not self.owners:
            raise violation("the check needs a database that is not issued", "add one, such as a database for tests")
        if self.checked not in self.owners:
            raise violation(f"checked_database one of {', '.join(self.owners)}", "name one, or leave it out")
        return self
