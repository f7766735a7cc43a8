"""NATS with JetStream: messaging between services. Each service has its own account and subjects."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pulumi

from components.base import PlatformComponent
from components.config.base import quantity
from components.config.data import Nats as NatsConfig
from components.data import exporter
from components.data.nats_accounts import accounts
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.pods import CustomizeArgs
from components.security.logins import Logins
from components.services.registry import SERVICES, key_buckets

PART = "nats"
CLIENT_PORT, ROUTE_PORT, MONITOR_PORT = 4222, 6222, 8222
OWNER = "nats"
"""Login that manages streams. Only setup tasks use it."""


class NatsArgs(CustomizeArgs):
    """Inputs of a NATS cluster."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    tasks_image: pulumi.Input[str]
    """Image that contains the kit."""
    exporters_image: pulumi.Input[str]
    logins: Logins
    destroy_data: bool


class NatsResources(NamedTuple):
    """Resources of a NATS cluster."""

    server: DataServer
    provision: DataTask


class Nats(PlatformComponent):
    """Servers, an account per service, and a check that stores and delivers a message."""

    url: pulumi.Output[str]
    """URL without credentials. It resolves once the streams exist and the check has passed."""

    def __init__(
        self, name: str, config: NatsConfig, args: NatsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("data", name, {"replicas": config.replicas}, opts)
        logins = args["logins"]
        users = {service.name: logins.password(service.name, "nats") for service in SERVICES.values()}
        rendered = pulumi.Output.all(namespace=args["namespace"], owner=logins.password(OWNER, "nats"), **users)
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=PART,
                title="NATS",
                processes=(
                    Process(
                        PART,
                        args["image"],
                        config.resources,
                        ("--config", f"/etc/{PART}-secret/nats.conf"),
                        {"client": CLIENT_PORT, "route": ROUTE_PORT},
                        ready=healthy("js-enabled-only=true"),
                        alive=healthy("js-server-only=true"),
                    ),
                    exporter.nats(args["exporters_image"], MONITOR_PORT),
                ),
                callers=(*SERVICES, task_name(PART)),
                replicas=config.replicas,
                storage=config.storage,
                metrics_port=exporter.NATS_PORT,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                destroy_data=args["destroy_data"],
                secret_files={
                    "nats.conf": pulumi.Output.secret(
                        rendered.apply(
                            lambda known: configuration(
                                config, known["namespace"], {**{s: known[s] for s in SERVICES}, OWNER: known["owner"]}
                            )
                        )
                    )
                },
            ),
            self.child(),
        )
        url = server.host.apply(lambda host: f"nats://{host}:{CLIENT_PORT}")
        check = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                image=args["tasks_image"],
                arguments=("nats",),
                part=PART,
                environment={
                    "ENDPOINT": url,
                    "PROVISION": json.dumps({"replicas": config.replicas, "buckets": key_buckets()}),
                },
                mounts={f"/etc/credentials/{OWNER}": logins.secret(OWNER)},
                versions=(logins.versions[OWNER],),
            ),
            self.child(),
        )
        self.url = pulumi.Output.all(url, check.done).apply(lambda known: known[0])
        self.resources = NatsResources(server, check)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": PART,
                "probe": "a message is kept by JetStream and delivered",
            },
            url=self.url,
        )


def healthy(question: str) -> Any:
    """Probe action. It runs inside the pod, because the monitoring port is on loopback."""
    url = f"http://127.0.0.1:{MONITOR_PORT}/healthz?{question}"
    return {"exec_": {"command": ["python3", "-c", f"import urllib.request as u; u.urlopen('{url}', timeout=4)"]}}


def configuration(config: NatsConfig, namespace: str, passwords: dict[str, str]) -> str:
    """Content of nats.conf, as JSON, which NATS accepts. It contains passwords."""
    peers = [f"nats://{PART}-{n}.{PART}-nodes.{namespace}.svc:{ROUTE_PORT}" for n in range(config.replicas)]
    settings: dict[str, object] = {
        "port": CLIENT_PORT,
        # The monitoring port shows subjects, accounts and addresses without a login, so it is on loopback.
        "http": f"127.0.0.1:{MONITOR_PORT}",
        "jetstream": {
            "store_dir": DATA_MOUNT,
            "max_memory_store": int(quantity(config.resources.memory)) // 4,
            # The rest of the volume is for the compaction of streams.
            "max_file_store": int(quantity(config.storage)) * 9 // 10,
        },
        "accounts": accounts(OWNER, passwords),
        "max_payload": 1024 * 1024,
        "write_deadline": "10s",
        "lame_duck_duration": "30s",
    }
    if config.replicas > 1:
        settings["server_name"] = "$HOSTNAME"
        settings["cluster"] = {"name": "platform", "port": ROUTE_PORT, "routes": peers}
    # NATS expands a reference to an environment variable only without quotes.
    return json.dumps(settings, indent=2).replace('"$HOSTNAME"', "$HOSTNAME") + "\n"
