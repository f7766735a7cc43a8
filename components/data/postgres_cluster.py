"""PostgreSQL: the server, its connection pool, continuous backup, and a database with a login per service."""

from __future__ import annotations

import json
from typing import NamedTuple

import pulumi

from components.base import PlatformComponent
from components.cluster.aws_site import outlet
from components.config.base import Resources, quantity
from components.config.data import Postgres
from components.data import exporter
from components.data.credentials import Credentials
from components.data.postgres_inputs import CAPTURE, SUPERUSER, PostgresClusterArgs, PostgresInputs
from components.data.rds import Rds
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.inputs import LoginArgs, checked

PART = "postgres"
DIRECT_PORT, POOL_PORT = 5432, 6432
SOCKETS = "/run/postgres"
_STORE_LOGIN = "store.aws"
STORE_LOGIN = "[default]\ncredential_process = python3 -m pgnode.store_login\n"
"""AWS configuration for Barman. Each of its programs asks the process for the login, so the password is in a file only,
and a replaced one is used from the next program on."""
_POOLS = 2
"""Pods of the connection pool with RDS. The pool survives the loss of one."""


class PostgresClusterResources(NamedTuple):
    """Resources of a PostgreSQL cluster."""

    server: DataServer
    """PostgreSQL; with RDS, the pool."""
    rds: Rds | None
    provision: DataTask
    """Makes databases and logins."""
    check: DataTask


class PostgresCluster(PlatformComponent):
    """The server, its databases, and a check that writes and reads a row."""

    host: pulumi.Output[str]
    """DNS name of the connection pool. It resolves once databases and logins exist and the check has passed."""
    direct: pulumi.Output[str]
    """DNS name of the server itself. It resolves at the same time."""
    credentials: dict[str, LoginArgs]
    """The Secret of each login, whose entry "postgres" is the password."""

    def __init__(self, name: str, args: PostgresClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._inputs = inputs = checked(PostgresInputs, self, name, args)
        super().__init__("data", name, {"storage": inputs.storage}, opts)
        part, store = inputs.kubernetes_name, inputs.backup_store
        more = [*([CAPTURE] if inputs.capture else []), *([inputs.issuer] if inputs.issuer else [])]
        users = [SUPERUSER, *inputs.owners, *more]
        objects = ["objects"] if store and not store.by_role and not inputs.rds else []
        self._logins = logins = Credentials(
            self,
            inputs,
            {user: ["postgres", *(objects if user == SUPERUSER else [])] for user in users},
            passwords=[SUPERUSER] if inputs.rds else [],
            # The bucket's owner has its password at the object store.
            given=[SUPERUSER] if objects else [],
        )
        self.credentials = logins.logins
        rds = None
        if inputs.rds:
            self.server, rds = self._at_rds()
            address = rds.address
        else:
            self.server = self._in_pod()
            address = self.server.host
        provisioned = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.image,
                arguments=("provision",),
                part=part,
                environment={"PGHOST": address, "PROVISION": json.dumps(wanted(inputs))},
                mounts=logins.mounts(*users),
                versions=logins.versions(*users),
            ),
            self.child(),
        )
        check = DataTask(
            f"{name}-check",
            TaskInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.image,
                arguments=("check",),
                part=part,
                environment={
                    "PGHOST": self.server.host,
                    "CHECK_DATABASE": inputs.checked,
                    "CHECK_LOGIN": inputs.checked,
                    "CHECK_AFTER": provisioned.done,
                },
                mounts=logins.mounts(inputs.checked),
            ),
            self.child(),
        )
        self.resources = PostgresClusterResources(self.server, rds, provisioned, check)
        self.host = pulumi.Output.all(self.server.host, check.done).apply(lambda known: known[0])
        self.direct = pulumi.Output.all(address, check.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": inputs.namespace,
                "name": part,
                "probe": "a row is written and read through the pool",
            },
            host=self.host,
        )

    def _in_pod(self) -> DataServer:
        """The server, its connection pool and the backup process, in one pod with a volume."""
        inputs, logins, store = self._inputs, self._logins, self._inputs.backup_store
        return DataServer(
            self.name,
            intent(inputs, logins),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=inputs.destroy_data,
                files={
                    "postgresql.conf": settings(inputs, store is not None),
                    **({_STORE_LOGIN: STORE_LOGIN} if store and not store.by_role else {}),
                },
                mounts=logins.mounts(SUPERUSER),
                versions=logins.versions(SUPERUSER),
                scratch=(SOCKETS,),
                annotations=store.annotations if store else {},
            ),
            self.child(),
        )

    def _at_rds(self) -> tuple[DataServer, Rds]:
        """The server on RDS. The connection pool runs in pods, with the usual DNS name."""
        inputs, logins, site = self._inputs, self._logins, self._inputs.site
        part = inputs.kubernetes_name
        assert site is not None  # the inputs are refused without
        rds = Rds(
            self.name,
            inputs,
            {
                "site": site,
                "user": SUPERUSER,
                "password": logins.password(SUPERUSER, "postgres"),
                "destroy_data": inputs.destroy_data,
            },
            self.child(),
        )
        direct = (part, task_name(part), *inputs.callers)
        target = (site.network, DIRECT_PORT)
        outlet(f"{self.name}-outlet", (inputs.namespace, f"{part}-outlet"), direct, target, self.child())
        pool = DataServer(
            self.name,
            ServerIntent(
                name=part,
                title="PgBouncer",
                folder=PART,
                processes=(pool_process(inputs, inputs.image, pulumi.Output.concat(rds.address, f":{DIRECT_PORT}")),),
                callers=(*inputs.callers, task_name(part)),
                replicas=_POOLS,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=True,
                mounts=logins.mounts(*inputs.owners),
                versions=logins.versions(*inputs.owners),
            ),
            self.child(),
        )
        return pool, rds


def pool_process(config: Postgres, image: pulumi.Input[str], server: pulumi.Input[str] = "") -> Process:
    """PgBouncer, the connection pool. `server` is host:port; empty means the server in the same pod."""
    environment: dict[str, pulumi.Input[str]] = {"POOL_SIZE": str(config.pool_size)}
    if server:
        environment |= {"POOL_SERVER": server}
    return Process(
        "pool",
        image,
        Resources(cpu="50m", memory="64Mi"),
        ("pool",),
        {"pool": POOL_PORT},
        environment,
        ready={"tcp_socket": {"port": "pool"}},
        start_s=600,
    )


def intent(inputs: PostgresInputs, logins: Credentials) -> ServerIntent:
    """Intent of the server's pod: PostgreSQL, the connection pool, and the base backup process."""
    image, store, exporters = inputs.image, inputs.backup_store, inputs.exporters_image
    assert exporters is not None  # the inputs are refused without
    bucket: dict[str, pulumi.Input[str]] = {}
    key: dict[str, tuple[pulumi.Input[str], str]] = {}
    if store:
        bucket = {
            "BACKUP_URL": f"s3://{store.bucket}",
            "AWS_DEFAULT_REGION": store.region,
            # The SDK adds newer checksums by default, which older S3 gateways do not support.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "BACKUP_ENDPOINT": store.endpoint,
        }
    if store and not store.by_role:
        bucket |= {"AWS_CONFIG_FILE": f"/etc/{PART}/{_STORE_LOGIN}", "BACKUP_LOGIN": SUPERUSER}
        key = {"objects": (logins.secret(SUPERUSER), "objects")}
    asks = f"pg_isready -q -h {SOCKETS} -U {SUPERUSER}"
    # Status 1: the server runs, but accepts no connections yet. A long replay of the log must not be interrupted.
    runs = {"exec_": {"command": ["sh", "-c", f"{asks}; [ $? -le 1 ]"]}}
    server = Process(
        PART,
        image,
        inputs.resources,
        ("serve",),
        {"postgres": DIRECT_PORT},
        bucket,
        key,
        ready={"exec_": {"command": asks.split()}},
        started=runs,
        alive=runs,
        start_s=600,
        # On SIGTERM, a server waits for its clients. "fast" aborts their transactions and writes a checkpoint.
        stop=("/opt/postgres/bin/pg_ctl", "-D", f"{DATA_MOUNT}/cluster", "-m", "fast", "-t", "80", "stop"),
    )
    schedule: dict[str, pulumi.Input[str]] = {
        **bucket,
        "BACKUP_EVERY_HOURS": str(inputs.backup.every_hours),
        "BACKUP_KEEP_DAYS": str(inputs.backup.keep_days),
    }
    backups = Process("backups", image, Resources(cpu="20m", memory="192Mi"), ("backups",), {}, schedule, key)
    part = inputs.kubernetes_name
    return ServerIntent(
        name=part,
        title="PostgreSQL",
        folder=PART,
        processes=(
            server,
            pool_process(inputs, image),
            *([backups] if store else []),
            exporter.postgres(exporters, SOCKETS, SUPERUSER),
        ),
        callers=(*inputs.callers, *([inputs.issuer] if inputs.issuer else []), task_name(part)),
        storage=inputs.storage,
        metrics_port=exporter.POSTGRES_PORT,
        stop_seconds=90,
    )


def settings(config: Postgres, backed_up: bool) -> str:
    """Content of postgresql.conf. Memory as PostgreSQL's manual recommends: a quarter for shared buffers, three
    quarters as the effective cache size."""
    megabytes = int(quantity(config.resources.memory)) // 2**20
    archive = "python3 -m barman.clients.cloud_walarchive --gzip --endpoint-url $BACKUP_ENDPOINT $BACKUP_URL main %p"
    lines = {
        "listen_addresses": "*",
        "password_encryption": "scram-sha-256",
        "max_connections": config.max_connections,
        "shared_buffers": f"{max(32, megabytes // 4)}MB",
        "effective_cache_size": f"{max(64, megabytes * 3 // 4)}MB",
        "maintenance_work_mem": f"{max(16, megabytes // 16)}MB",
        "dynamic_shared_memory_type": "mmap",
        # Change data capture reads the log. A slot without a reader must not fill the volume.
        "wal_level": "logical",
        "max_replication_slots": 20,
        "max_wal_senders": 20,
        "max_slot_wal_keep_size": "1GB",
        "max_wal_size": "1GB",
        "archive_mode": "on" if backed_up else "off",
        "archive_command": archive if backed_up else "",
        # Seconds of changes that a restore can lose at most.
        "archive_timeout": "60s",
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_min_duration_statement": "1s",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    shown = {key: f"'{value}'" if isinstance(value, str) else str(value) for key, value in lines.items()}
    return "".join(f"{key} = {value}\n" for key, value in shown.items())


def wanted(inputs: PostgresInputs) -> dict[str, object]:
    """Databases and logins, as the task takes them."""
    databases = [
        {
            "name": one.name,
            "login": one.name,
            "extensions": one.extensions,
            "outbox": one.outbox,
            **({"issued": True} if one.issued else {}),
        }
        for one in inputs.databases
    ]
    capture = CAPTURE if inputs.capture else ""
    issuer = {"issuer": inputs.issuer} if inputs.issuer else {}
    return {"databases": databases, "capture": capture, "managed": inputs.rds is not None, **issuer}
