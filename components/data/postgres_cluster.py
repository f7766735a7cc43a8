"""PostgreSQL: the server, its pool, continuous backup, and a database with a login for each service."""

from __future__ import annotations

import json
from typing import TypedDict

import pulumi

from components.base import PlatformComponent
from components.config_base import Resources, quantity
from components.config_data import Postgres
from components.data.server import DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.intents import SERVICES, with_database
from components.security.logins import Logins

PART = "postgres"
DIRECT_PORT, POOL_PORT = 5432, 6432
SUPERUSER, CAPTURE, REGISTRY = "postgres", "capture", "registry"
"""Logins beside the services': the server's own, change data capture's, the schema registry's."""
BUCKET = "postgres-backup"
_CHECKED = "registry"


class PostgresClusterArgs(TypedDict):
    """Inputs of a PostgreSQL cluster."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    logins: Logins
    backup_endpoint: pulumi.Input[str]
    """URL of the object store that gets backups and the write-ahead log; empty: no backup."""
    callers: tuple[str, ...]
    """Parts besides the services with a database that may connect."""
    capture: bool
    """Whether change data capture reads the outboxes."""
    destroy_data: bool


class PostgresCluster(PlatformComponent):
    """A server, the databases in it, and the proof that a row can be written and read."""

    host: pulumi.Output[str]
    """DNS name, known once databases and logins are there and the check has passed."""

    def __init__(
        self, name: str, config: Postgres, args: PostgresClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("data", name, {"storage": config.storage}, opts)
        logins = args["logins"]
        backed_up = bool(args["backup_endpoint"])
        self.server = server = DataServer(
            name,
            intent(config, args, backed_up),
            ServerInputs(
                namespace=args["namespace"],
                destroy_data=args["destroy_data"],
                files={"postgresql.conf": settings(config, backed_up)},
                mounts={f"/etc/credentials/{SUPERUSER}": logins.secret(SUPERUSER)},
                versions=[logins.versions[SUPERUSER]],
                scratch=("/run/postgres",),
            ),
            self.child(),
        )
        users = [SUPERUSER, REGISTRY, *(s.service for s in with_database()), *([CAPTURE] if args["capture"] else [])]
        mounts = {f"/etc/credentials/{user}": logins.secret(user) for user in users}
        versions = tuple(logins.versions[user] for user in users)
        provisioned = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=args["namespace"],
                image=args["image"],
                arguments=("provision",),
                part=PART,
                environment={"PGHOST": server.host, "PROVISION": json.dumps(wanted(args["capture"]))},
                mounts=mounts,
                versions=versions,
            ),
            self.child(),
        )
        check = DataTask(
            f"{name}-check",
            TaskInputs(
                namespace=args["namespace"],
                image=args["image"],
                arguments=("check",),
                part=PART,
                environment={
                    "PGHOST": server.host,
                    "CHECK_DATABASE": _CHECKED,
                    "CHECK_LOGIN": _CHECKED,
                    "CHECK_AFTER": provisioned.done,
                },
                mounts={f"/etc/credentials/{_CHECKED}": logins.secret(_CHECKED)},
            ),
            self.child(),
        )
        self.host = pulumi.Output.all(server.host, check.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": PART,
                "probe": "a row is written and read through the pool",
            },
            host=self.host,
        )


def intent(config: Postgres, args: PostgresClusterArgs, backed_up: bool) -> ServerIntent:
    """The server's pod: PostgreSQL, the pool, and who takes base backups."""
    image, logins = args["image"], args["logins"]
    bucket: dict[str, pulumi.Input[str]] = {
        "BACKUP_URL": f"s3://{BUCKET}",
        "BACKUP_ENDPOINT": args["backup_endpoint"],
        "AWS_ACCESS_KEY_ID": SUPERUSER,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Older S3 gateways do not know the newer checksums that the SDK adds by itself.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    key = {"AWS_SECRET_ACCESS_KEY": (logins.secret(SUPERUSER), "objects")}
    server = Process(
        PART,
        image,
        config.resources,
        ("serve",),
        {"postgres": DIRECT_PORT},
        bucket if backed_up else {},
        key if backed_up else {},
        # Ready even while the log is replayed would be too early: the pool's probe asks the server itself.
        ready={"exec_": {"command": ["pg_isready", "-q", "-h", "/run/postgres", "-U", SUPERUSER]}},
        start_s=600,
    )
    pool = Process(
        "pool",
        image,
        Resources(cpu="50m", memory="64Mi"),
        ("pool",),
        {"pool": POOL_PORT},
        {"POOL_SIZE": str(config.pool_size)},
        ready={"tcp_socket": {"port": "pool"}},
        start_s=600,
    )
    schedule: dict[str, pulumi.Input[str]] = {
        **bucket,
        "BACKUP_EVERY_HOURS": str(config.backup.every_hours),
        "BACKUP_KEEP_DAYS": str(config.backup.keep_days),
    }
    backups = Process("backups", image, Resources(cpu="20m", memory="192Mi"), ("backups",), {}, schedule, key)
    services = tuple(service.service for service in with_database())
    return ServerIntent(
        name=PART,
        title="PostgreSQL",
        processes=(server, pool, *([backups] if backed_up else [])),
        callers=(*services, *args["callers"], task_name(PART)),
        storage=config.storage,
        stop_seconds=90,
    )


def settings(config: Postgres, backed_up: bool) -> str:
    """postgresql.conf. Memory as PostgreSQL's manual recommends: a quarter shared, three quarters assumed cached."""
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
        # Change data capture reads the log; a slot that nobody reads must not fill the volume.
        "wal_level": "logical",
        "max_replication_slots": 20,
        "max_wal_senders": 20,
        "max_slot_wal_keep_size": "1GB",
        "max_wal_size": "1GB",
        "archive_mode": "on" if backed_up else "off",
        "archive_command": archive if backed_up else "",
        # The most that a restore can lose.
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
    """Databases and logins, as the intents say."""
    databases: list[dict[str, object]] = [
        {
            "name": service.service,
            "login": service.service,
            "extensions": list(service.extensions),
            "outbox": bool(service.outbox),
        }
        for service in SERVICES.values()
        if service.database
    ]
    databases.append({"name": REGISTRY, "login": REGISTRY, "extensions": [], "outbox": False})
    return {"databases": databases, "capture": CAPTURE if capture else ""}
