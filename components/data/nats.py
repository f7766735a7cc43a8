"""NATS with JetStream: messaging between services. Each service has its own account and subjects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pulumi

from components.base import PlatformComponent, gathered
from components.config.base import quantity
from components.config.data import Nats as NatsConfig
from components.data import exporter, nats_logins
from components.data.credentials import Credentials
from components.data.nats_accounts import accounts
from components.data.nats_inputs import NatsAccount, NatsArgs, NatsInputs
from components.data.nats_logins import LoginStore
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.inputs import LoginArgs, checked

PART = "nats"
CLIENT_PORT, ROUTE_PORT, MONITOR_PORT = 4222, 6222, 8222
_MONITOR = f"http://127.0.0.1:{MONITOR_PORT}"
OWNER = "nats"
"""Login that manages streams. Only setup tasks use it."""
_ROUTES = "routes"
"""Login of the servers at each other's route port, with the owner's password."""


class NatsResources(NamedTuple):
    """Resources of a NATS cluster."""

    server: DataServer
    provision: DataTask


class Nats(PlatformComponent):
    """Servers, an account per login, and a check that stores and delivers a message."""

    url: pulumi.Output[str]
    """URL without credentials. It resolves once the streams exist and the check has passed."""
    credentials: dict[str, LoginArgs]
    """The Secret of each login, whose entry "nats" is the password."""

    def __init__(self, name: str, args: NatsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(NatsInputs, self, name, args)
        super().__init__("data", name, {"replicas": inputs.replicas}, opts)
        part, owned = inputs.kubernetes_name, {account.name: account for account in inputs.accounts}
        plain = [OWNER, *(name for name in owned if name not in inputs.issued)]
        logins = Credentials(self, inputs, {login: ["nats"] for login in plain}, passwords=plain)
        self.credentials = logins.logins
        rendered = pulumi.Output.all(
            inputs.namespace, gathered({login: logins.password(login, "nats") for login in plain})
        )
        beside, files, secrets = _logins(inputs, rendered)
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=part,
                title="NATS",
                folder=PART,
                processes=(
                    Process(
                        PART,
                        inputs.image,
                        inputs.resources,
                        ("--config", f"/etc/{PART}-secret/nats.conf"),
                        {"client": CLIENT_PORT, "route": ROUTE_PORT},
                        ready=healthy("js-enabled-only=true"),
                        alive=healthy("js-server-only=true"),
                    ),
                    exporter.nats(inputs.exporters_image, MONITOR_PORT),
                    *beside,
                ),
                callers=(*owned, *inputs.callers, task_name(part)),
                inner={"route": ()},
                replicas=inputs.replicas,
                storage=inputs.storage,
                metrics_port=exporter.NATS_PORT,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=inputs.destroy_data,
                files=files,
                secret_files={
                    "nats.conf": pulumi.Output.secret(
                        rendered.apply(lambda known: configuration(inputs, part, known[0], known[1], owned))
                    ),
                    **secrets,
                },
            ),
            self.child(),
        )
        url = server.host.apply(lambda host: f"nats://{host}:{CLIENT_PORT}")
        buckets = sorted({bucket for account in inputs.accounts for bucket in (*account.keeps, *account.follows)})
        check = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.tasks_image,
                arguments=("nats",),
                part=part,
                environment={
                    "ENDPOINT": url,
                    "PROVISION": json.dumps({"replicas": inputs.replicas, "buckets": buckets}),
                },
                mounts=logins.mounts(OWNER),
                versions=logins.versions(OWNER),
            ),
            self.child(),
        )
        self.resources = NatsResources(server, check)
        self.url = pulumi.Output.all(url, check.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": inputs.namespace,
                "name": part,
                "probe": "a message is kept by JetStream and delivered",
            },
            url=self.url,
        )


def _logins(
    inputs: NatsInputs, rendered: pulumi.Output[Any]
) -> tuple[tuple[Process, ...], dict[str, pulumi.Input[str]], dict[str, pulumi.Input[str]]]:
    """(processes, files, secret files) for logins that the secret store issues. `rendered`: namespace, passwords."""
    if not inputs.issued or inputs.store_url is None or inputs.store_authority is None:
        return (), {}, {}
    issued = [account for account in inputs.accounts if account.name in inputs.issued]
    urls = (f"nats://127.0.0.1:{CLIENT_PORT}", _MONITOR)
    store = LoginStore(inputs.store_url, inputs.store_authority)
    text = pulumi.Output.secret(rendered.apply(lambda known: nats_logins.declared(known[1][OWNER], issued)))
    return (
        (nats_logins.process(inputs.tasks_image, store, PART, urls),),
        {nats_logins.AUTHORITY: inputs.store_authority},
        {nats_logins.DECLARED: text},
    )


def healthy(question: str) -> Any:
    """Probe action. It runs inside the pod, because the monitoring port is on loopback."""
    url = f"{_MONITOR}/healthz?{question}"
    return {"exec_": {"command": ["python3", "-c", f"import urllib.request as u; u.urlopen('{url}', timeout=4)"]}}


def configuration(
    config: NatsConfig,
    part: str,
    namespace: str,
    passwords: Mapping[str, str],
    owned: Mapping[str, NatsAccount],
) -> str:
    """Content of nats.conf, as JSON, with passwords. `part` is the servers' name in Kubernetes."""
    # Whoever joins as a server reads and writes all accounts, so servers authenticate to each other, too.
    login = f"{_ROUTES}:{passwords[OWNER]}"
    peers = [f"nats://{login}@{part}-{n}.{part}-nodes.{namespace}.svc:{ROUTE_PORT}" for n in range(config.replicas)]
    settings: dict[str, Any] = {
        "port": CLIENT_PORT,
        # The monitoring port shows subjects, accounts and addresses without a login, so it is on loopback.
        "http": f"127.0.0.1:{MONITOR_PORT}",
        "jetstream": {
            "store_dir": DATA_MOUNT,
            "max_memory_store": int(quantity(config.resources.memory)) // 4,
            # The rest of the volume is for the compaction of streams.
            "max_file_store": int(quantity(config.storage)) * 9 // 10,
        },
        "accounts": accounts(OWNER, passwords, owned),
        "max_payload": 1024 * 1024,
        "write_deadline": "10s",
        "lame_duck_duration": "30s",
    }
    if any(name not in passwords for name in owned):
        settings |= nats_logins.settings(passwords[OWNER], passwords)
        settings["accounts"][nats_logins.ACCOUNT] = nats_logins.system_account(passwords[OWNER])
    if config.replicas > 1:
        settings["server_name"] = "$HOSTNAME"
        allowed = {"user": _ROUTES, "password": passwords[OWNER], "timeout": 5}
        settings["cluster"] = {"name": "platform", "port": ROUTE_PORT, "authorization": allowed, "routes": peers}
    # NATS expands a reference to an environment variable only without quotes.
    return json.dumps(settings, indent=2).replace('"$HOSTNAME"', "$HOSTNAME") + "\n"
