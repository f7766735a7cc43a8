"""Cache: Redis or Valkey, in which each service can access its own keys only."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import pulumi

from components.base import PlatformComponent
from components.config.base import quantity
from components.config.data import Cache as CacheConfig
from components.config.data import Persistence
from components.data import exporter
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.pods import CustomizeArgs
from components.security.logins import Logins
from components.services.registry import SERVICES

PART = "cache"
PORT = 6379
OWNER = "cache"
"""Login of the metrics exporter. It may read statistics, and no keys."""
_LOOKING = "+ping +info +latency|latest +slowlog|len +slowlog|get"


class CacheArgs(CustomizeArgs):
    """Inputs of a cache."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    tasks_image: pulumi.Input[str]
    """Image that contains the kit."""
    exporters_image: pulumi.Input[str]
    logins: Logins
    destroy_data: bool


class CacheResources(NamedTuple):
    """Resources of a cache."""

    server: DataServer
    check: DataTask


class Cache(PlatformComponent):
    """The server, its users, and a check: a user can write and read its own keys, and no others."""

    url: pulumi.Output[str]
    """URL without credentials. It resolves once the check has passed."""

    def __init__(
        self, name: str, config: CacheConfig, args: CacheArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("data", name, {"eviction": config.eviction.value}, opts)
        logins = args["logins"]
        users = [s.name for s in SERVICES.values() if s.cache]
        known = pulumi.Output.all(**{user: logins.password(user, "cache") for user in (OWNER, *users)})
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=PART,
                title="Redis",
                processes=(
                    Process(
                        PART,
                        args["image"],
                        config.resources,
                        (f"/etc/{PART}/redis.conf",),
                        {"redis": PORT},
                        ready={"tcp_socket": {"port": "redis"}},
                    ),
                    exporter.cache(args["exporters_image"], PORT, OWNER, f"/etc/{PART}-secret/exporter.json"),
                ),
                callers=(*users, task_name(PART)),
                storage="" if config.persistence is Persistence.NONE else config.storage,
                metrics_port=exporter.CACHE_PORT,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                destroy_data=args["destroy_data"],
                files={"redis.conf": settings(config)},
                versions=[logins.versions[OWNER]],
                secret_files={
                    "users.acl": pulumi.Output.secret(known.apply(access_list)),
                    "exporter.json": pulumi.Output.secret(
                        known.apply(lambda passwords: exporter.cache_passwords(PORT, OWNER, passwords[OWNER]))
                    ),
                },
            ),
            self.child(),
        )
        url = server.host.apply(lambda host: f"redis://{host}:{PORT}")
        check = DataTask(
            f"{name}-check",
            TaskInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                image=args["tasks_image"],
                arguments=("cache",),
                part=PART,
                environment={"ENDPOINT": url, "CHECK_LOGINS": " ".join(users)},
                mounts={f"/etc/credentials/{user}": logins.secret(user) for user in users},
                versions=tuple(logins.versions[user] for user in users),
            ),
            self.child(),
        )
        self.url = pulumi.Output.all(url, check.done).apply(lambda found: found[0])
        self.resources = CacheResources(server, check)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": PART,
                "probe": "a key is written and read by its owner, and refused to others",
            },
            url=self.url,
        )


def settings(config: CacheConfig) -> str:
    """Content of redis.conf. A quarter of the memory stays free for buffers and for copies during log rewrites."""
    lasting = config.persistence is not Persistence.NONE
    lines = {
        "port": PORT,
        "bind": "* -::*",
        "protected-mode": "no",
        "aclfile": f"/etc/{PART}-secret/users.acl",
        "maxmemory": int(quantity(config.resources.memory)) * 3 // 4,
        "maxmemory-policy": config.eviction.value,
        "maxmemory-samples": 10,
        "appendonly": "yes" if lasting else "no",
        "appendfsync": "always" if config.persistence is Persistence.ALWAYS else "everysec",
        "save": '""',
        "dir": DATA_MOUNT if lasting else "/tmp",
        "tcp-keepalive": 60,
        "timeout": 0,
        "lazyfree-lazy-eviction": "yes",
    }
    return "".join(f"{key} {value}\n" for key, value in lines.items())


def access_list(passwords: dict[str, str]) -> str:
    """Content of users.acl, with hashed passwords. A service may access keys with its own prefix, and may not run
    commands that reach other keys."""
    lines = ["user default off"]
    for user, password in sorted(passwords.items()):
        digest = hashlib.sha256(password.encode()).hexdigest()
        keys = _LOOKING if user == OWNER else f"~{user}:* &{user}:* +@all -@admin -@dangerous"
        lines.append(f"user {user} on #{digest} resetkeys resetchannels {keys}")
    return "\n".join(lines) + "\n"
