"""The secret store: OpenBao with its own unseal key, initialized and configured without manual steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, NotRequired, Self, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pydantic import Field, Strict, field_validator, model_validator

from components import catalogue
from components.ai.service import api_server_outlet
from components.base import PlatformComponent, fingerprint, labels
from components.cluster import iam
from components.cluster.aws_site import ANYWHERE, AwsSite, AwsSiteArgs, outlet
from components.cluster.encryption_key import EncryptionKey
from components.config.base import DnsLabel, NamespaceName, Resources
from components.config.problems import violation
from components.config.security import SecretEngine
from components.config.security import SecretStore as SecretStoreConfig
from components.data.document import Document, document
from components.data.server import DataServer, Process, ServerInputs, ServerIntent, service_account, task_name
from components.data.task import DataTask, TaskInputs
from components.delivery.images import ImageError
from components.inputs import Inputs, ResourcesArgs, Text, checked
from components.pods import PodArgs
from components.security import store_rights, store_settings
from components.security.certificate import Certificate
from components.security.store_names import AUDIENCE, DATABASE_ACCOUNT, NATS
from components.security.store_rights import SNAPSHOTS_ACCOUNT
from components.security.store_settings import CLUSTER_PORT, PLUGINS_MOUNT, PORT, SEAL_MOUNT, TLS_MOUNT
from components.services.record import KeyUse

PART = "secret-store"
METRICS_PORT = 9102
CONTENT = f"{PART}-content"
_API_SERVER = "https://kubernetes.default.svc"
_KEY_VOLUME = "64Mi"
_PLUGIN = "openbao-awskms"


class StoreClientArgs(TypedDict):
    """A service that reads its own secrets, and uses its own keys."""

    name: str
    """Name of the service account. Pods with the label app.kubernetes.io/name of this value may connect."""
    store_keys: NotRequired[Mapping[str, KeyUse]]
    """Its keys by name: "ed25519" signs, "aes256-gcm96" encrypts. Default: none."""
    store_key_families: NotRequired[Sequence[str]]
    """Families of keys by name, which it makes, uses, rotates and destroys itself. Default: none."""
    database: NotRequired[bool]
    """Whether the store issues logins for the PostgreSQL database of its name. Default false."""
    cache: NotRequired[bool]
    """Whether the store issues logins for its keys in the cache. Default false."""
    nats: NotRequired[bool]
    """Whether its pods register their logins for NATS in the store. Default false."""


class SecretStoreArgs(TypedDict):
    """Inputs of the secret store. A namespace has one: its objects are called "secret-store"."""

    namespace: str
    """Namespace in Kubernetes."""
    image: pulumi.Input[str]
    """Image of OpenBao with the platform's tasks, by digest."""
    clients: NotRequired[Sequence[StoreClientArgs]]
    """Services that use the store. Default: none."""
    engine: NotRequired[SecretEngine]
    """Program that keeps secrets. Default "openbao"."""
    replicas: NotRequired[int]
    """Servers: 1, 3 or 5. Default 3."""
    storage: NotRequired[str]
    """Volume of each server, a Kubernetes quantity. Default "1Gi"."""
    resources: NotRequired[ResourcesArgs]
    """Of each server."""
    login_hours: NotRequired[int]
    """Hours after which the login of a pod for PostgreSQL is replaced at the latest, 1 to 24. Default 24."""
    cache_login_hours: NotRequired[int]
    """Hours after which the login of a pod for the cache is replaced at the latest, 1 to 24. Default 24."""
    seal_secret_name: NotRequired[str]
    """Secret whose entry "key" holds the 32 bytes that unseal the store. Several servers need it without `site`."""
    site: NotRequired[AwsSiteArgs]
    """Where on AWS the key is that unseals the store. Default: the first server makes a key on a volume."""
    customize: NotRequired[PodArgs]
    """Settings of its pods. Default: none."""
    destroy_data: NotRequired[bool]
    """Whether deleting the component may delete its volumes. Default false: it is refused."""


class StoreClient(Inputs):
    """A service that uses the store."""

    name: DnsLabel = Field(description="Name of the service account")
    store_keys: dict[DnsLabel, Annotated[KeyUse, Strict(False)]] = Field(
        default_factory=dict[str, KeyUse], description="Its keys by name"
    )
    store_key_families: list[DnsLabel] = Field(
        default_factory=list[str], description="Families of keys by name, which it makes and destroys itself"
    )
    database: bool = Field(default=False, description="The store issues logins for the PostgreSQL database of its name")
    cache: bool = Field(default=False, description="The store issues logins for its keys in the cache")
    nats: bool = Field(default=False, description="Its pods register their logins for NATS in the store")

    @property
    def speaks(self) -> bool:
        """Whether it uses NATS with such logins, as a service's record calls it."""
        return self.nats


class SecretStoreInputs(Inputs, SecretStoreConfig):
    """What `SecretStoreArgs` may hold."""

    namespace: NamespaceName = Field(description="Namespace in Kubernetes")
    image: Text = Field(description="Image of OpenBao with the platform's tasks, by digest")
    clients: list[StoreClient] = Field(default_factory=list[StoreClient], description="Services that use the store")
    site: AwsSite | None = Field(default=None, description="Where on AWS the key is that unseals the store")
    customize: Any = Field(default=None, description="Settings of its pods, which are checked where they are applied")
    destroy_data: bool = Field(default=False, description="Whether deleting the component may delete its volumes")
    snapshots: Any = Field(default=None, exclude=True, description="Only in the stack file: StoreSnapshots saves them")

    @field_validator("snapshots", mode="before")
    @classmethod
    def _not_here(cls, _: object) -> object:
        raise violation("not an input of the store", "remove it")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.replicas > 1 and self.site is None and self.seal_secret_name is None:
            raise violation(
                "several servers need one key: site or seal_secret_name is required", "add one, or set replicas to 1"
            )
        return self


class SecretStoreResources(NamedTuple):
    """Resources of a secret store."""

    server: DataServer
    check: DataTask


class SecretStore(PlatformComponent):
    """Servers, their content besides secrets, and a check that the content matches the declaration."""

    url: pulumi.Output[str]
    """Known once the store is configured."""
    address: str
    """The same, known before the store works, for clients that wait themselves."""
    authority: pulumi.Output[str]
    """CA certificate (PEM) that clients trust."""
    server: DataServer

    def __init__(self, name: str, args: SecretStoreArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._config = config = checked(SecretStoreInputs, self, name, args)
        super().__init__("security", name, {"replicas": config.replicas, "storage": config.storage}, opts)
        namespace = config.namespace
        certificate = Certificate(
            f"{name}-certificate",
            {"namespace": namespace, "secret_name": f"{PART}-tls", "hosts": hosts(namespace)},
            self.child(),
        )
        self.authority = certificate.authority
        content = store_rights.content(config.clients, namespace, config.login_hours, config.cache_login_hours)
        declared = document(f"{name}-content", CONTENT, (namespace, CONTENT), PART, content, self.child())
        self.server = self._servers(certificate, declared)
        self._reviews_tokens()
        service_account(f"{name}-operator", namespace, f"{PART}-operator", self.child())
        address = self.server.host.apply(lambda host: f"https://{host}:{PORT}")
        self.address = f"https://{PART}.{namespace}.svc:{PORT}"
        check = DataTask(
            f"{name}-check",
            TaskInputs(
                namespace=namespace,
                image=config.image,
                arguments=("check",),
                part=PART,
                environment={"STORE_ADDRESS": address, "STORE_AUTHORITY": certificate.authority},
                audiences=(AUDIENCE,),
                documents=(declared,),
                customize=config.customize or {},
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
                "probe": "its content matches the services' records",
            },
            url=self.url,
        )

    def _servers(self, certificate: Certificate, declared: Document) -> DataServer:
        config, namespace = self._config, self._config.namespace
        seal, annotations = self._seal()
        peers = [f"https://{host}:{PORT}" for host in nodes(namespace, config.replicas)]
        begins = store_rights.beginning(namespace, {"kubernetes_host": _API_SERVER})
        given = bool(config.seal_secret_name)
        by_key = self._config.site is None
        return DataServer(
            self.name,
            ServerIntent(
                name=PART,
                title="OpenBao",
                processes=(
                    _server(config, self._config.image, peers, by_key=by_key, given=given),
                    _keeper(self._config.image),
                ),
                callers=(
                    *(record.name for record in self._config.clients),
                    task_name(PART),
                    SNAPSHOTS_ACCOUNT,
                    *([DATABASE_ACCOUNT] if any(one.database or one.cache for one in self._config.clients) else []),
                    *([NATS] if any(one.nats for one in self._config.clients) else []),
                ),
                inner={"raft": ()},
                replicas=config.replicas,
                storage=config.storage,
                apart={SEAL_MOUNT.strip("/"): _KEY_VOLUME} if by_key and not given else {},
                metrics_port=METRICS_PORT,
            ),
            ServerInputs(
                namespace=namespace,
                customize=config.customize or {},
                destroy_data=self._config.destroy_data,
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
        name, namespace = self.name, self._config.namespace
        if self._config.site is None:
            return pulumi.Output.from_input(store_settings.by_key()), {}
        site = self._config.site
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
        name, namespace = f"{self._config.namespace}-{PART}-reviewer", self._config.namespace
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
    """DNS names of the servers, in the order in which they start."""
    return [f"{PART}-{n}.{PART}-nodes.{namespace}.svc" for n in range(replicas)]


def hosts(namespace: str) -> list[str]:
    """All host names of the servers. Inside the pod, and through a forwarded port, they use loopback."""
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
        # A sealed server keeps running: an operator may have sealed it, and a restart would unseal it.
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
    """Action of a probe. A standby counts as healthy like the active server."""
    query = "&".join(("standbyok=true", *([also] if also else [])))
    return {"http_get": {"path": f"/v1/sys/health?{query}", "port": "api", "scheme": "HTTPS"}}


def _plugin() -> dict[str, str]:
    """OpenBao's plugin for AWS KMS. Raises ImageError if its digest is unknown."""
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
