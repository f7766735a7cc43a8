"""OPA: replicas that decide at the gateway, with one signed bundle of policies and data."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls

from components import secret_files
from components.ai.bindings import Bindings
from components.ai.service import NOBODY, PROGRESS_DEADLINE_S, network_policy, peers, restricted, scraper, spread
from components.base import PlatformComponent, fingerprint, labels, selector
from components.config.base import quantity
from components.config.opa import Opa as OpaConfig
from components.pods import PodArgs, customization
from components.security import policy_bundle
from components.security.policy_data import GRPC_PORT, HTTP_PORT, PART
from components.services.record import KEYS_BUCKET, DataIntent

DATA = DataIntent(PART, follows=(KEYS_BUCKET,), produces=("policy.decided.v1",))
"""What OPA needs of the data layer: whose a key is, and a topic for the decisions that Audit keeps."""
GATEWAY = "gateway"
"""The part that asks for decisions."""
DRAIN_SECONDS = 5
_POLICY = "/etc/opa"
_COPY = "/copy"
_PASSWORD, _KAFKA_PASSWORD = "SERVICE_NATS_PASSWORD", "SERVICE_KAFKA_PASSWORD"
_KAFKA, _AUTHORITY = "SERVICE_KAFKA_BOOTSTRAP", "SERVICE_KAFKA_AUTHORITY"


class OpaArgs(TypedDict):
    """Inputs of OPA. A namespace has one: its objects are called "opa"."""

    namespace: pulumi.Input[str]
    """Namespace in Kubernetes."""
    image: pulumi.Input[str]
    """Image of OPA, by digest."""
    installation: Mapping[str, Any]
    """Data of the policies."""
    rules: NotRequired[Mapping[str, str]]
    """Modules of the installation's own rules by file name. Default: none."""
    customize: NotRequired[PodArgs]
    """Settings of the pods. Default: none."""
    data: Bindings
    """NATS with the directory of keys, and Kafka, which may be missing."""


class OpaResources(NamedTuple):
    """Resources of OPA."""

    deployment: k8s.apps.v1.Deployment
    service: k8s.core.v1.Service
    bundle: k8s.core.v1.ConfigMap
    """The signed bundle, and the public key of its signature."""
    key: tls.PrivateKey
    """The key that signs bundles. It never leaves the Pulumi state."""


class Opa(PlatformComponent):
    """Deployment, headless Service, ServiceAccount, NetworkPolicy, disruption budget, and the signed bundle.

    A changed bundle is a new object, for which new pods start. A pod is ready once its bundle is in force and it
    has received the directory of keys, so pods with the last good bundle stay where the new one is refused.
    """

    def __init__(self, name: str, config: OpaConfig, args: OpaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        files = policy_bundle.contents(args["installation"], args.get("rules", {}))
        self.revision = policy_bundle.revision(files)
        """Revision of the bundle, as metrics and the log of decisions show it."""
        super().__init__("security", name, {"replicas": config.replicas, "revision": self.revision}, opts)
        self._config, self._args = config, args
        key = tls.PrivateKey(f"{name}-signing", algorithm="RSA", rsa_bits=3072, opts=self.child())
        bundle = self._bundle(files, key)
        k8s.core.v1.ServiceAccount(
            name, metadata=self._meta(), automount_service_account_token=False, opts=self.child()
        )
        deployment = self._deployment(bundle.metadata["name"])
        service = k8s.core.v1.Service(
            name,
            metadata=self._meta(),
            spec={
                # HTTP/2 connections are long-lived: the gateway spreads its calls over the pods itself.
                "cluster_ip": "None",
                "selector": selector(PART),
                "ports": [{"name": "grpc", "port": GRPC_PORT, "target_port": "grpc", "app_protocol": "grpc"}],
            },
            opts=self.child(),
        )
        self.ports = {PART: [GRPC_PORT]}
        spec: Any = {
            "policy_types": ["Ingress"],
            "ingress": [
                {"from_": peers([GATEWAY]), "ports": [{"port": "grpc"}]},
                {"from_": [scraper()], "ports": [{"port": "http"}]},
            ],
        }
        network_policy(name, self._meta(), PART, spec, self.child())
        if config.replicas > 1:
            k8s.policy.v1.PodDisruptionBudget(
                name,
                metadata=self._meta(),
                spec={"max_unavailable": 1, "selector": {"match_labels": selector(PART)}},
                opts=self.child(),
            )
        self.resources = OpaResources(deployment, service, bundle, key)
        self.finish(
            {
                "kind": "Deployment",
                "namespace": args["namespace"],
                "name": PART,
                "probe": "every replica has a signed bundle in force",
            }
        )

    def _meta(self) -> Any:
        return {"name": PART, "namespace": self._args["namespace"], "labels": labels(PART, "security")}

    def _bundle(self, files: Mapping[str, bytes], key: tls.PrivateKey) -> k8s.core.v1.ConfigMap:
        signed = key.private_key_pem.apply(
            lambda private: base64.b64encode(policy_bundle.build(files, private)).decode()
        )
        return k8s.core.v1.ConfigMap(
            f"{self.name}-bundle",
            metadata={"namespace": self._args["namespace"], "labels": labels(PART, "security")},
            # A signature does not reveal the key that made it.
            binary_data={policy_bundle.FILE: pulumi.Output.unsecret(signed)},
            # With the brokers' CA certificate, whose path in the bindings is in this folder.
            data={"key.pem": pulumi.Output.unsecret(key.public_key_pem), **self._args["data"].files},
            immutable=True,
            opts=self.child(),
        )

    def _deployment(self, bundle: pulumi.Input[str]) -> k8s.apps.v1.Deployment:
        config, bound = self._config, self._args["data"]
        url = bound.environment["SERVICE_NATS_URL"]
        container: Any = {
            "name": PART,
            "image": self._args["image"],
            "args": [
                "serve",
                *(f"-bundle={_POLICY}", f"-key={_POLICY}/key.pem", f"-copy={_COPY}"),
                *(f"-grpc=:{GRPC_PORT}", f"-http=:{HTTP_PORT}", f"-limit={config.decision_milliseconds}ms"),
                pulumi.Output.concat("-nats=", url),
                f"-nats-password-file={secret_files.path(_PASSWORD)}",
                *_kafka(bound),
            ],
            # Go's collector of garbage works harder before the container reaches its limit.
            "env": [{"name": "GOMEMLIMIT", "value": str(int(quantity(config.resources.memory) * 8 // 10))}],
            "ports": [
                {"name": "grpc", "container_port": GRPC_PORT},
                {"name": "http", "container_port": HTTP_PORT},
            ],
            # A replica waits for the directory as long as NATS is away: only liveness restarts it.
            "startup_probe": {
                "http_get": {"path": "/healthz", "port": "http"},
                "timeout_seconds": 3,
                "period_seconds": 1,
                "failure_threshold": 60,
            },
            "readiness_probe": {
                "http_get": {"path": "/readyz", "port": "http"},
                "timeout_seconds": 3,
                "period_seconds": 2,
                "failure_threshold": 2,
            },
            "liveness_probe": {
                "http_get": {"path": "/healthz", "port": "http"},
                "timeout_seconds": 3,
                "period_seconds": 10,
                "failure_threshold": 3,
            },
            "lifecycle": {"pre_stop": {"sleep": {"seconds": DRAIN_SECONDS}}},
            "resources": {
                "requests": {"cpu": config.resources.cpu, "memory": config.resources.memory},
                "limits": {"memory": config.resources.memory},
            },
            "security_context": restricted(),
            "volume_mounts": [
                {"name": "bundle", "mount_path": _POLICY, "read_only": True},
                {"name": "copy", "mount_path": _COPY},
                secret_files.mount(),
            ],
        }
        pod: Any = {
            "service_account_name": PART,
            "automount_service_account_token": False,
            "enable_service_links": False,
            "termination_grace_period_seconds": DRAIN_SECONDS + 15,
            "topology_spread_constraints": spread(PART),
            "containers": [container],
            "security_context": {"fs_group": NOBODY},
            "volumes": [
                {"name": "bundle", "config_map": {"name": bundle}},
                {"name": "copy", "empty_dir": {"size_limit": "64Mi"}},
                secret_files.volume(bound.secrets),
            ],
        }
        notes: Any = {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(HTTP_PORT),
            "cogniforge.dev/secrets": pulumi.Output.all(*bound.versions).apply("-".join).apply(fingerprint),
        }
        template: Any = {"metadata": {"labels": labels(PART, "security"), "annotations": notes}, "spec": pod}
        return k8s.apps.v1.Deployment(
            self.name,
            metadata=self._meta(),
            spec={
                "replicas": config.replicas,
                "revision_history_limit": 3,
                "progress_deadline_seconds": PROGRESS_DEADLINE_S,
                "selector": {"match_labels": selector(PART)},
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_unavailable": 0, "max_surge": 1}},
                "template": customization(self._args.get("customize")).template(template, PART),
            },
            opts=self.child(),
        )


def _kafka(bound: Bindings) -> list[pulumi.Input[str]]:
    """Arguments that name Kafka, where the environment has it."""
    if _KAFKA not in bound.environment:
        return []
    return [
        pulumi.Output.concat("-kafka=", bound.environment[_KAFKA]),
        pulumi.Output.concat("-kafka-authority=", bound.environment[_AUTHORITY]),
        f"-kafka-password-file={secret_files.path(_KAFKA_PASSWORD)}",
    ]
