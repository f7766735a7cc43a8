"""Store of log lines: VictoriaLogs in a namespace of its own, or a Loki that exists already."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_random as random

from components import secret_files
from components.ai.service import network_policy
from components.base import ADMISSION_LABEL, PlatformComponent, fingerprint, labels
from components.cluster.namespace import PlatformNamespace, peers_in
from components.config.base import quantity
from components.config.logs import Logs
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent
from components.observability.log_names import COLLECTOR, COLLECTOR_NAMESPACE, LOGIN, PORT, STORE, STORE_NAMESPACE, USER
from components.pods import PodArgs

_LOKI_PATH, _VICTORIALOGS_PATH = "/otlp/v1/logs", "/insert/opentelemetry/v1/logs"
_PASSWORD_LENGTH = 43
"""Letters and digits; 43 of them have 256 bits of entropy."""


class LogStoreArgs(TypedDict):
    """Inputs of the store."""

    namespace: str
    """Namespace of the platform."""
    owner: str
    """Person or group responsible for the store's namespace."""
    image: pulumi.Input[str]
    """Image of VictoriaLogs, by digest; empty where Loki is the store."""
    readers: list[str]
    """Parts of the platform's namespace that may connect. They receive the store's login."""
    destroy_data: bool
    """Whether `destroy` may delete the lines."""
    customize: PodArgs
    """Settings of its pod."""


class LogStoreResources(NamedTuple):
    """Resources of the store; None where Loki is the store."""

    namespace: PlatformNamespace | None
    server: DataServer | None
    login: k8s.core.v1.Secret | None
    """What the operator reads lines with."""


class LogStore(PlatformComponent):
    """Takes lines by OTLP and answers queries. One login writes and reads; only the collector and readers may connect.

    Other queries go through the API server: `kubectl port-forward`, or `forge logs`.
    """

    url: str
    """Address that takes OTLP's requests for logs."""
    authorization: pulumi.Output[str] | None
    """Value of the header Authorization, a secret output; None where the login is a Secret that exists already."""
    version: pulumi.Output[str] | None
    """Changes with the login, and does not reveal it."""

    def __init__(self, name: str, config: Logs, args: LogStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("observability", name, {"storage": config.storage}, opts)
        self.authorization = self.version = None
        if config.loki:
            self.url = config.loki.url + _LOKI_PATH
            self.resources = LogStoreResources(None, None, None)
            self.finish({"kind": "", "namespace": "", "name": "", "probe": "Loki takes lines"})
            return
        self.url = f"http://{STORE}.{STORE_NAMESPACE}.svc:{PORT}{_VICTORIALOGS_PATH}"
        # The platform's admission policies hold here, too: only its own images run.
        space = PlatformNamespace(
            f"{name}-namespace",
            {"namespace": STORE_NAMESPACE, "owner": args["owner"], "labels": {ADMISSION_LABEL: args["namespace"]}},
            self.child(),
        )
        login, authorization, version = self._login(space)
        self.authorization = authorization
        self._ingress(space)
        if args["readers"]:
            self._let_in(space, authorization, args["namespace"], args["readers"])
        server = DataServer(
            name,
            ServerIntent(
                name=STORE,
                title="VictoriaLogs",
                processes=(
                    Process(
                        STORE,
                        args["image"],
                        config.resources,
                        arguments(config),
                        {"http": PORT},
                        secrets={"password": (login.metadata["name"], "password")},
                        # This path needs no login.
                        ready={"http_get": {"path": "/health", "port": "http"}},
                        start_s=300,
                    ),
                ),
                callers=(),
                storage=config.storage,
            ),
            ServerInputs(
                namespace=space.namespace,
                customize=args["customize"],
                destroy_data=args["destroy_data"],
                versions=(version,),
            ),
            self.child(),
        )
        self.ports, self.version = server.ports, version
        self.resources = LogStoreResources(space, server, login)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": space.namespace,
                "name": STORE,
                "probe": "VictoriaLogs answers GET /health",
            }
        )

    def _login(self, space: PlatformNamespace) -> tuple[k8s.core.v1.Secret, pulumi.Output[str], pulumi.Output[str]]:
        """The one login of the store, the value of its header Authorization, and a value that changes with it."""
        password = random.RandomPassword(
            f"{self.name}-login",
            length=_PASSWORD_LENGTH,
            special=False,
            opts=self.child(additional_secret_outputs=["result"]),
        )
        header = pulumi.Output.secret(password.result.apply(lambda known: basic(USER, known)))
        secret = k8s.core.v1.Secret(
            f"{self.name}-login",
            metadata={"name": LOGIN, "namespace": space.namespace, "labels": labels(STORE, "observability")},
            string_data={"password": password.result, "authorization": header},
            opts=self.child(),
        )
        return secret, header, pulumi.Output.unsecret(password.result.apply(fingerprint))

    def _ingress(self, space: PlatformNamespace) -> None:
        """The collector's pods are in another namespace."""
        self._admits(space, COLLECTOR, peers_in(COLLECTOR_NAMESPACE, [COLLECTOR]))

    def _let_in(
        self, space: PlatformNamespace, authorization: pulumi.Output[str], platform: str, readers: list[str]
    ) -> None:
        """Readers are in the platform's namespace, where pods find the login in a Secret of the same name."""
        self._admits(space, "readers", peers_in(platform, readers))
        k8s.core.v1.Secret(
            f"{self.name}-readers-login",
            metadata={"name": LOGIN, "namespace": platform, "labels": labels(STORE, "observability")},
            string_data={"authorization": authorization},
            opts=self.child(),
        )

    def _admits(self, space: PlatformNamespace, who: str, pods: list[Any]) -> None:
        spec = {"policy_types": ["Ingress"], "ingress": [{"from_": pods, "ports": [{"port": "http"}]}]}
        meta = {
            "name": f"{STORE}-{who}",
            "namespace": space.namespace,
            "labels": labels(STORE, "observability"),
        }
        network_policy(f"{self.name}-{who}", meta, STORE, spec, self.child())


def basic(user: str, password: str) -> str:
    """Value of the header Authorization for HTTP's basic authentication (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def arguments(config: Logs, data: str = DATA_MOUNT, password: str = secret_files.path("password")) -> tuple[str, ...]:
    """Arguments of the server. The oldest day is deleted when lines fill four fifths of the volume."""
    return (
        f"-storageDataPath={data}",
        f"-retentionPeriod={config.keep_days}d",
        f"-retention.maxDiskSpaceUsageBytes={int(quantity(config.storage)) * 4 // 5}",
        f"-httpListenAddr=:{PORT}",
        f"-httpAuth.username={USER}",
        f"-httpAuth.password=file://{password}",
        "-loggerFormat=json",
    )
