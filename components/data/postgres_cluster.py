"""PostgreSQL: the server, its connection pool, continuous backup, and a database with a login per service."""

from __future__ import annotations

import json
from typing import NamedTuple

import pulumi

from components.base import PlatformComponent
from components.cluster.aws_site import AwsSite, outlet
from components.config.base import Resources, quantity
from components.config.data import Postgres
from components.data import exporter
from components.data.object_store import ObjectStore
from components.data.rds import Rds
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.pods import CustomizeArgs
from components.security.logins import Logins
from components.services.registry import SERVICES, with_database

PART = "postgres"
DIRECT_PORT, POOL_PORT = 5432, 6432
SUPERUSER, CAPTURE, REGISTRY = "postgres", "capture", "registry"
"""Logins besides those of the services: superuser, change data capture, schema registry."""
SOCKETS = "/run/postgres"
BUCKET = "postgres-backup"
_CHECKED = "registry"
_POOLS = 2
"""Pods of the connection pool with RDS. The pool survives the loss of one."""


class PostgresClusterArgs(CustomizeArgs):
    """Inputs of a PostgreSQL cluster."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    exporters_image: pulumi.Input[str]
    logins: Logins
    objects: ObjectStore | None
    """Object store for backups and the write-ahead log. Without it, there are no backups."""
    site: AwsSite | None
    """Network of the RDS server; required with `rds` in the configuration."""
    callers: tuple[str, ...]
    """Parts that may connect, besides services with a database."""
    capture: bool
    """Whether change data capture reads the outbox tables."""
    destroy_data: bool


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

    def __init__(
        self, name: str, config: Postgres, args: PostgresClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("data", name, {"storage": config.storage}, opts)
        logins = args["logins"]
        rds = None
        if config.rds:
            self.server, rds = self._at_rds(name, config, args)
            address = rds.address
        else:
            self.server = self._in_pod(name, config, args)
            address = self.server.host
        users = [SUPERUSER, *pooled(), *([CAPTURE] if args["capture"] else [])]
        mounts = {f"/etc/credentials/{user}": logins.secret(user) for user in users}
        versions = tuple(logins.versions[user] for user in users)
        provisioned = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                image=args["image"],
                arguments=("provision",),
                part=PART,
                environment={
                    "PGHOST": address,
                    "PROVISION": json.dumps(wanted(args["capture"]) | {"managed": config.rds is not None}),
                },
                mounts=mounts,
                versions=versions,
            ),
            self.child(),
        )
        check = DataTask(
            f"{name}-check",
            TaskInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                image=args["image"],
                arguments=("check",),
                part=PART,
                environment={
                    "PGHOST": self.server.host,
                    "CHECK_DATABASE": _CHECKED,
                    "CHECK_LOGIN": _CHECKED,
                    "CHECK_AFTER": provisioned.done,
                },
                mounts={f"/etc/credentials/{_CHECKED}": logins.secret(_CHECKED)},
            ),
            self.child(),
        )
        self.resources = PostgresClusterResources(self.server, rds, provisioned, check)
        self.host = pulumi.Output.all(self.server.host, check.done).apply(lambda known: known[0])
        self.direct = pulumi.Output.all(address, check.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": PART,
                "probe": "a row is written and read through the pool",
            },
            host=self.host,
        )

    def _in_pod(self, name: str, config: Postgres, args: PostgresClusterArgs) -> DataServer:
        """The server, its connection pool and the backup process, in one pod with a volume."""
        logins, backed_up = args["logins"], args["objects"] is not None
        return DataServer(
            name,
            intent(config, args),
            ServerInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                destroy_data=args["destroy_data"],
                files={"postgresql.conf": settings(config, backed_up)},
                mounts={f"/etc/credentials/{SUPERUSER}": logins.secret(SUPERUSER)},
                versions=[logins.versions[SUPERUSER]],
                scratch=(SOCKETS,),
                annotations=args["objects"].annotations.get(PART, {}) if args["objects"] else {},
            ),
            self.child(),
        )

    def _at_rds(self, name: str, config: Postgres, args: PostgresClusterArgs) -> tuple[DataServer, Rds]:
        """The server on RDS. The connection pool runs in pods, with the usual DNS name."""
        site, logins = args["site"], args["logins"]
        assert site is not None  # the configuration takes rds with a cluster on AWS only
        rds = Rds(
            name,
            config,
            {
                "site": site,
                "user": SUPERUSER,
                "password": logins.password(SUPERUSER, "postgres"),
                "destroy_data": args["destroy_data"],
            },
            self.child(providers={"aws": site.provider}),
        )
        direct = (PART, task_name(PART), *(s.name for s in with_database()), *args["callers"])
        outlet(
            f"{name}-outlet", (args["namespace"], f"{PART}-outlet"), direct, (site.network, DIRECT_PORT), self.child()
        )
        pool = DataServer(
            name,
            ServerIntent(
                name=PART,
                title="PgBouncer",
                processes=(pool_process(config, args["image"], pulumi.Output.concat(rds.address, f":{DIRECT_PORT}")),),
                callers=_callers(args),
                replicas=_POOLS,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                destroy_data=True,
                mounts={f"/etc/credentials/{user}": logins.secret(user) for user in pooled()},
                versions=[logins.versions[user] for user in pooled()],
            ),
            self.child(),
        )
        return pool, rds


def pooled() -> list[str]:
    """Logins that use the connection pool."""
    return [REGISTRY, *(service.name for service in with_database())]


def _callers(args: PostgresClusterArgs) -> tuple[str, ...]:
    return (*(service.name for service in with_database()), *args["callers"], task_name(PART))


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


def intent(config: Postgres, args: PostgresClusterArgs) -> ServerIntent:
    """Intent of the server's pod: PostgreSQL, the connection pool, and the base backup process."""
    image, logins, objects = args["image"], args["logins"], args["objects"]
    bucket: dict[str, pulumi.Input[str]] = {}
    key: dict[str, tuple[pulumi.Input[str], str]] = {}
    if objects:
        bucket = {
            "BACKUP_URL": f"s3://{objects.place.get('PREFIX', '')}{BUCKET}",
            "AWS_DEFAULT_REGION": objects.place.get("REGION", "us-east-1"),
            # The SDK adds newer checksums by default, which older S3 gateways do not support.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "BACKUP_ENDPOINT": objects.endpoint,
        }
    if objects and not objects.by_role:
        bucket |= {"AWS_ACCESS_KEY_ID": SUPERUSER}
        key = {"AWS_SECRET_ACCESS_KEY": (logins.secret(SUPERUSER), "objects")}
    asks = f"pg_isready -q -h {SOCKETS} -U {SUPERUSER}"
    # Status 1: the server runs, but accepts no connections yet. A long replay of the log must not be interrupted.
    runs = {"exec_": {"command": ["sh", "-c", f"{asks}; [ $? -le 1 ]"]}}
    server = Process(
        PART,
        image,
        config.resources,
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
        "BACKUP_EVERY_HOURS": str(config.backup.every_hours),
        "BACKUP_KEEP_DAYS": str(config.backup.keep_days),
    }
    backups = Process("backups", image, Resources(cpu="20m", memory="192Mi"), ("backups",), {}, schedule, key)
    return ServerIntent(
        name=PART,
        title="PostgreSQL",
        processes=(
            server,
            pool_process(config, image),
            *([backups] if objects else []),
            exporter.postgres(args["exporters_image"], SOCKETS, SUPERUSER),
        ),
        callers=_callers(args),
        storage=config.storage,
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


def wanted(capture: bool) -> dict[str, object]:
    """Desired databases and logins, derived from the intents, for the setup task."""
    databases: list[dict[str, object]] = [
        {
            "name": service.name,
            "login": service.name,
            "extensions": list(service.extensions),
            "outbox": bool(service.outbox),
        }
        for service in SERVICES.values()
        if service.database
    ]
    databases.append({"name": REGISTRY, "login": REGISTRY, "extensions": [], "outbox": False})
    return {"databases": databases, "capture": CAPTURE if capture else ""}
