"""The secret store: OpenBao with an unseal key of its own, begun and configured without a human step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components import catalogue
from components.ai.service import api_server_outlet
from components.base import PlatformComponent, fingerprint, labels
from components.cluster import iam
from components.cluster.aws_site import ANYWHERE, AwsSite, AwsSiteArgs, outlet
from components.cluster.encryption_key import EncryptionKey
from components.config.base import Resources
from components.config.security import SecretStore as SecretStoreConfig
from components.data.document import Document, document
from components.data.server import DataServer, Process, ServerInputs, ServerIntent, service_account, task_name
from components.data.task import DataTask, TaskInputs
from components.delivery.images import ImageError
from components.security import store_rights, store_settings
from components.security.certificate import Certificate
from components.security.store_rights import AUDIENCE, SNAPSHOTS_ACCOUNT
from components.security.store_settings import CLUSTER_PORT, PLUGINS_MOUNT, PORT, SEAL_MOUNT, TLS_MOUNT
from components.services.record import ServiceRecord

PART = "secret-store"
METRICS_PORT = 9102
CONTENT = f"{PART}-content"
_API_SERVER = "https://kubernetes.default.svc"
_KEY_VOLUME = "64Mi"
_PLUGIN = "openbao-awskms"


class SecretStoreArgs(TypedDict):
    """Inputs of the secret store."""

    namespace: str
    image: pulumi.Input[str]
    records: Iterable[ServiceRecord]
    """The services that the environment has."""
    site: AwsSiteArgs | None
    """Where the key that unseals it is, on AWS."""
    destroy_data: bool


class SecretStoreResources(NamedTuple):
    """Resources of a secret store."""

    server: DataServer
    check: DataTask


class SecretStore(PlatformComponent):
    """Servers, what they hold besides secrets, and the proof that this is as declared."""

    url: pulumi.Output[str]
    """Known once the store is configured."""
    authority: pulumi.Output[str]
    """The certificate (PEM) that clients trust."""
    server: DataServer

    def __init__(
        self, name: str, config: SecretStoreConfig, args: SecretStoreArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("security", name, {"replicas": config.replicas, "storage": config.storage}, opts)
        self._config, self._args, namespace = config, args, args["namespace"]
        certificate = Certificate(
            f"{name}-certificate",
            {"namespace": namespace, "secret_name": f"{PART}-tls", "hosts": hosts(namespace)},
            self.child(),
        )
        self.authority = certificate.authority
        content = store_rights.content(args["records"], namespace)
        declared = document(f"{name}-content", CONTENT, (namespace, CONTENT), PART, content, self.child())
        self.server = self._servers(certificate, declared)
        self._reviews_tokens()
        service_account(f"{name}-operator", namespace, f"{PART}-operator", self.child())
        address = self.server.host.apply(lambda host: f"https://{host}:{PORT}")
        check = DataTask(
            f"{name}-check",
            TaskInputs(
                namespace=namespace,
                image=args["image"],
                arguments=("check",),
                part=PART,
                environment={"STORE_ADDRESS": address, "STORE_AUTHORITY": certificate.authority},
                audiences=(AUDIENCE,),
                documents=(declared,),
            ),
            self.child(),
        )
        self.resources = SecretStoreResources(self.server, check)
        self.url = pulumi.Output.all(address, check.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": namespace,
                "name": PART,
                "probe": "its content is as the services' records declare",
            },
            url=self.url,
        )

    def _servers(self, certificate: Certificate, declared: Document) -> DataServer:
        config, namespace = self._config, self._args["namespace"]
        seal, annotations = self._seal()
        peers = [f"https://{host}:{PORT}" for host in nodes(namespace, config.replicas)]
        begins = store_rights.beginning(namespace, {"kubernetes_host": _API_SERVER})
        given = bool(config.seal_secret_name)
        by_key = self._args["site"] is None
        return DataServer(
            self.name,
            ServerIntent(
                name=PART,
                title="OpenBao",
                processes=(
                    _server(config, self._args["image"], peers, by_key=by_key, given=given),
                    _keeper(self._args["image"]),
                ),
                callers=(*(record.name for record in self._args["records"]), task_name(PART), SNAPSHOTS_ACCOUNT),
                replicas=config.replicas,
                storage=config.storage,
                apart={SEAL_MOUNT.strip("/"): _KEY_VOLUME} if by_key and not given else {},
                metrics_port=METRICS_PORT,
            ),
            ServerInputs(
                namespace=namespace,
                destroy_data=self._args["destroy_data"],
                files={
                    "first.hcl": seal.apply(lambda blocks: store_settings.first(blocks, begins)),
                    "store.hcl": seal.apply(lambda blocks: store_settings.store(blocks, peers)),
                },
                mounts={
                    TLS_MOUNT: certificate.secret_name,
                    **({SEAL_MOUNT: config.seal_secret_name} if config.seal_secret_name else {}),
                },
                scratch=() if by_key else (PLUGINS_MOUNT,),
                versions=[certificate.authority.apply(fingerprint)],
                documents=(declared,),
                annotations=annotations,
            ),
            self.child(),
        )

    def _seal(self) -> tuple[pulumi.Output[list[store_settings.Block]], dict[str, pulumi.Input[str]]]:
        """What unseals it, and what its account carries for that."""
        name, namespace = self.name, self._args["namespace"]
        if self._args["site"] is None:
            return pulumi.Output.from_input(store_settings.by_key()), {}
        site = AwsSite.model_validate(self._args["site"])
        key = EncryptionKey(
            f"{name}-unseal",
            {"purpose": "Unseals the secret store", "account_id": site.account_id},
            self.child(),
        )
        acts = ["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"]
        role = iam.WorkloadRole(
            name,
            site.cluster_name,
            site.issuer,
            (namespace, PART),
            self.child(),
            policy=key.arn.apply(lambda arn: iam.document([iam.statement(acts, [arn])])),
        )
        outlet(f"{name}-outlet", (namespace, f"{PART}-outlet"), (PART,), (ANYWHERE, 443), self.child())
        plugin = _plugin()
        return key.arn.apply(lambda arn: store_settings.by_kms(site.region, arn, plugin)), role.annotations

    def _reviews_tokens(self) -> None:
        """Let the servers ask the API server whose a token is, which belongs to no namespace."""
        name, namespace = f"{self._args['namespace']}-{PART}-reviewer", self._args["namespace"]
        group = "rbac.authorization.k8s.io"
        meta: Any = {"name": name, "labels": labels(PART, "security")}
        rules: Any = [{"api_groups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]
        role = k8s.rbac.v1.ClusterRole(f"{self.name}-reviewer", metadata=meta, rules=rules, opts=self.child())
        k8s.rbac.v1.ClusterRoleBinding(
            f"{self.name}-reviewer",
            metadata=meta,
            role_ref={"api_group": group, "kind": "ClusterRole", "name": role.metadata["name"]},
            subjects=[{"kind": "ServiceAccount", "name": PART, "namespace": namespace}],
            opts=self.child(),
        )
        policy = {"name": f"{PART}-api-server", "namespace": namespace, "labels": labels(PART, "security")}
        api_server_outlet(f"{self.name}-api-server", policy, PART, self.child())


def nodes(namespace: str, replicas: int) -> list[str]:
    """Names of the servers' own, in the order in which they begin."""
    return [f"{PART}-{n}.{PART}-nodes.{namespace}.svc" for n in range(replicas)]


def hosts(namespace: str) -> list[str]:
    """All names of the servers. From inside the pod, and through a forwarded port, it is loopback."""
    service = f"{PART}.{namespace}.svc"
    return [service, PART, f"*.{PART}-nodes.{namespace}.svc", "localhost", "127.0.0.1"]


def _server(
    config: SecretStoreConfig, image: pulumi.Input[str], peers: list[str], *, by_key: bool, given: bool
) -> Process:
    alive = _health("sealedcode=204&uninitcode=204")
    return Process(
        PART,
        image,
        config.resources,
        ("serve",),
        {"api": PORT, "raft": CLUSTER_PORT},
        {
            "STORE_PEERS": " ".join(peers),
            "STORE_SEAL_BY": "key" if by_key else "kms",
            **({"STORE_SEAL_MADE_ELSEWHERE": "yes"} if given else {}),
        },
        fields={"STORE_NODE": "metadata.name"},
        ready=_health(),
        # A sealed server runs: somebody may have sealed it on purpose, and a restart would unseal it.
        started=alive,
        alive=alive,
        start_s=600,
        asks_kubernetes=True,
    )


def _keeper(image: pulumi.Input[str]) -> Process:
    return Process(
        "keeper",
        image,
        Resources(cpu="10m", memory="64Mi"),
        ("keep",),
        {"metrics": METRICS_PORT},
        alive={"tcp_socket": {"port": "metrics"}},
        audiences=(AUDIENCE,),
    )


def _health(also: str = "") -> Any:
    """A probe's action; a standby is as healthy as the active server."""
    query = "&".join(("standbyok=true", *([also] if also else [])))
    return {"http_get": {"path": f"/v1/sys/health?{query}", "port": "api", "scheme": "HTTPS"}}


def _plugin() -> dict[str, str]:
    """Through which OpenBao speaks to AWS KMS. Raises ImageError where its digest is not known."""
    pin = catalogue.plugin(_PLUGIN)
    if pin.sha256 is None:
        missing = f'plugin "{_PLUGIN}" {pin.version} has no sha256 in {catalogue.LOCK_FILE.name}'
        if not pulumi.runtime.is_dry_run():
            raise ImageError(missing)
        pulumi.log.warn(f"{catalogue.NO_DIGEST}{missing}")
    return {
        "image": pin.image,
        "version": pin.version,
        "binary_name": pin.program,
        "sha256sum": pin.sha256 or "0" * 64,
    }
