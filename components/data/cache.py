"""Cache: Redis or Valkey, in which each service can access its own keys only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple, NotRequired, Self

import pulumi
from pydantic import Field, model_validator

from components.base import PlatformComponent, gathered
from components.config.base import DnsLabel, first_duplicate, quantity
from components.config.data import Cache as CacheConfig
from components.config.data import Eviction, Persistence
from components.config.problems import violation
from components.data import exporter
from components.data.cache_rights import EXPORTER_RULES, ISSUER_RULES, service_rules
from components.data.credentials import Credentials
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.inputs import LoginArgs, ResourcesArgs, Server, ServerArgs, Text, checked
from components.security.store_names import ISSUER

PART = "cache"
PORT = 6379
OWNER = "cache"
"""Login of the metrics exporter. It may read statistics, and no keys."""


class CacheArgs(ServerArgs):
    """Inputs of a cache."""

    image: pulumi.Input[str]
    """Redis' or Valkey's image, by digest."""
    tasks_image: pulumi.Input[str]
    """Image of the task that checks the logins, by digest."""
    exporters_image: pulumi.Input[str]
    """Image of the metrics exporter, by digest."""
    users: NotRequired[Sequence[str]]
    """Logins. Each sees the keys that begin with "<login>:"; pods with the label app.kubernetes.io/name of this value
    may connect."""
    issued: NotRequired[Sequence[str]]
    """Like `users`, but a secret store issues their logins, so that they have no password here."""
    storage: NotRequired[str]
    """Volume, with persistence; a Kubernetes quantity. Default "2Gi"."""
    resources: NotRequired[ResourcesArgs]
    """Three quarters of the memory hold data."""
    eviction: NotRequired[Eviction]
    """What a full cache does. Default "allkeys-lru"."""
    persistence: NotRequired[Persistence]
    """What is left after a restart. Default "none"."""


class CacheInputs(Server, CacheConfig):
    """What `CacheArgs` may hold."""

    image: Text = Field(description="Redis' or Valkey's image, by digest")
    tasks_image: Text = Field(description="Image of the task that checks the logins, by digest")
    exporters_image: Text = Field(description="Image of the metrics exporter, by digest")
    users: list[DnsLabel] = Field(default_factory=list[str], description="Logins, each with keys of its own")

    issued: list[DnsLabel] = Field(
        default_factory=list[str], description="Like users, but a secret store issues their logins"
    )

    @property
    def platform(self) -> tuple[str, ...]:
        """Logins of the platform's own parts."""
        return (OWNER, ISSUER) if self.issued else (OWNER,)

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if duplicate := first_duplicate((*self.users, *self.issued, *self.platform)):
            raise violation(f'"{duplicate}" occurs twice, or is a login of the platform', "choose another name")
        return self


class CacheResources(NamedTuple):
    """Resources of a cache."""

    server: DataServer
    check: DataTask


class Cache(PlatformComponent):
    """The server, its users, and a check: a user can write and read its own keys, and no others."""

    url: pulumi.Output[str]
    """URL without credentials. It resolves once the check has passed."""
    credentials: dict[str, LoginArgs]
    """The Secret of each login, whose entry "cache" is the password."""

    def __init__(self, name: str, args: CacheArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(CacheInputs, self, name, args)
        super().__init__("data", name, {"eviction": inputs.eviction.value}, opts)
        part, users = inputs.kubernetes_name, inputs.users
        everybody, issuers = (*inputs.platform, *users), inputs.platform[1:]
        logins = Credentials(self, inputs, {login: ["cache"] for login in everybody}, passwords=everybody)
        self.credentials = logins.logins
        known = gathered({user: logins.password(user, "cache") for user in everybody})
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=part,
                title="Redis",
                folder=PART,
                processes=(
                    Process(
                        PART,
                        inputs.image,
                        inputs.resources,
                        (f"/etc/{PART}/redis.conf",),
                        {"redis": PORT},
                        ready={"tcp_socket": {"port": "redis"}},
                    ),
                    exporter.cache(inputs.exporters_image, PORT, OWNER, f"/etc/{PART}-secret/exporter.json"),
                ),
                callers=(*users, *inputs.issued, *issuers, task_name(part)),
                storage="" if inputs.persistence is Persistence.NONE else inputs.storage,
                metrics_port=exporter.CACHE_PORT,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=inputs.destroy_data,
                files={"redis.conf": settings(inputs)},
                versions=logins.versions(*inputs.platform),
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
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.tasks_image,
                arguments=("cache",),
                part=part,
                environment={
                    "ENDPOINT": url,
                    "CHECK_LOGINS": " ".join(users),
                    **({"CHECK_ISSUED": _issued(inputs)} if inputs.issued else {}),
                },
                mounts=logins.mounts(*users, *issuers),
                versions=logins.versions(*users, *issuers),
            ),
            self.child(),
        )
        self.resources = CacheResources(server, check)
        self.url = pulumi.Output.all(url, check.done).apply(lambda found: found[0])
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": inputs.namespace,
                "name": part,
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
    """Content of users.acl, with hashed passwords. Logins that a secret store issues are not in it."""
    lines = ["user default off"]
    for user, password in sorted(passwords.items()):
        digest = hashlib.sha256(password.encode()).hexdigest()
        rules = _PLATFORM_RULES.get(user) or service_rules(user)
        lines.append(f"user {user} on #{digest} resetkeys resetchannels {' '.join(rules)}")
    return "\n".join(lines) + "\n"


_PLATFORM_RULES = {OWNER: EXPORTER_RULES, ISSUER: ISSUER_RULES}


def _issued(inputs: CacheInputs) -> str:
    """What the task checks of issued logins: the rules of each service."""
    rules = {service: service_rules(service) for service in inputs.issued}
    return json.dumps({"issuer": ISSUER, "rules": rules}, sort_keys=True)
