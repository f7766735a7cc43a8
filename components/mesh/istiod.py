"""Istio's control plane for one namespace, without charts and webhooks: the sidecars are rendered by the platform."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls

from components import secret_files
from components.ai.service import (
    NOBODY,
    PROGRESS_DEADLINE_S,
    api_server_outlet,
    network_policy,
    restricted,
    scraper,
    spread,
)
from components.base import PlatformComponent, fingerprint, labels, selector
from components.mesh import sidecar
from components.mesh.istio import NAMESPACE
from components.mesh.sidecar import CONTROL_PORT, PART, ROOT_MAP, TRUST_DOMAIN
from components.security.certificate import CA_HOURS

METRICS_PORT, HEALTH_PORT = 15014, 8080
_SIGNS = ["cert_signing", "crl_signing"]
_CLUSTERS = "/var/run/clusters"
CLUSTER_RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("apiextensions.k8s.io", "customresourcedefinitions", ("get", "list", "watch")),
    ("", "namespaces", ("get", "list", "watch")),
    ("", "nodes", ("get", "list", "watch")),
    ("networking.k8s.io", "ingressclasses", ("get", "list", "watch")),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", ("get", "list", "watch")),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", ("get", "list", "watch")),
    ("authentication.k8s.io", "tokenreviews", ("create",)),
)
"""(API group, resource, verbs) in the cluster: what istiod watches before it becomes ready, and review of tokens."""
RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    *(
        (f"{group}.istio.io", "*", ("get", "list", "watch"))
        for group in ("config", "extensions", "networking", "security", "telemetry")
    ),
    ("", "pods", ("get", "list", "watch")),
    ("", "services", ("get", "list", "watch")),
    ("", "endpoints", ("get", "list", "watch")),
    ("discovery.k8s.io", "endpointslices", ("get", "list", "watch")),
    ("networking.k8s.io", "ingresses", ("get", "list", "watch")),
    ("", "configmaps", ("create", "get", "list", "update", "watch")),
    ("coordination.k8s.io", "leases", ("create", "get", "patch", "update")),
)
"""The same in the platform's namespace. Secrets are not among them."""
_SETTINGS = {
    "PILOT_CERT_PROVIDER": "istiod",
    "CLUSTER_ID": "Kubernetes",
    # Filters of Istio's own Envoy, which upstream's Envoy does not have.
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_DISABLE_MX_ALPN": "true",
    "PILOT_ENABLE_TELEMETRY_LABEL": "false",
    "PILOT_ENDPOINT_TELEMETRY_LABEL": "false",
    "PILOT_ENABLE_GATEWAY_API": "false",
    "PILOT_ENABLE_GATEWAY_API_STATUS": "false",
    "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
    "PILOT_ENABLE_ANALYSIS": "false",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    # With these two, istiod reads no Secrets: no certificates of ingress gateways, no other clusters. The identity
    # check belongs to that reader. All sidecars are in one namespace, which is what the check would compare.
    "PILOT_ENABLE_XDS_IDENTITY_CHECK": "false",
    "PILOT_MULTICLUSTER_KUBECONFIG_PATH": _CLUSTERS,
    "MAX_WORKLOAD_CERT_TTL": "24h",
}


class IstiodArgs(TypedDict):
    """Inputs of istiod."""

    namespace: str
    """Namespace of istiod, and the only one whose pods it serves."""
    image: pulumi.Input[str]
    """Image of istiod, by digest."""
    replicas: int
    """Replicas of the control plane."""
    authorities: Sequence[str]
    """Names of the mesh's authorities. The first signs; sidecars trust all of them."""
    serves_collector: bool
    """Whether the metrics collector, which has no sidecar, gets a certificate."""


class IstiodResources(NamedTuple):
    """Resources of istiod."""

    deployment: k8s.apps.v1.Deployment
    service: k8s.core.v1.Service
    roots: tuple[tls.SelfSignedCert, ...]
    """The mesh's authorities. Their keys never leave the Pulumi state."""
    issuer: tls.LocallySignedCert
    """The intermediate authority with which istiod signs, below the first one."""


class Istiod(PlatformComponent):
    """Deployment, Service, rights, NetworkPolicies, and the authority of the mesh."""

    def __init__(self, name: str, args: IstiodArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mesh", name, {"replicas": args["replicas"]}, opts)
        self._args = args
        roots, issuer, authority, trusted = self._authority()
        self.trusted_pem = _joined(root.cert_pem for root in roots)
        """Certificates of all authorities (PEM)."""
        self.authority = pulumi.Output.all(issuer.cert_pem, self.trusted_pem).apply("".join).apply(fingerprint)
        """Changes with what istiod signs with, and with what sidecars trust."""
        settings = self._config_map("config", {"mesh": json.dumps(mesh_config(args["namespace"]))})
        account = k8s.core.v1.ServiceAccount(
            name, metadata=self._meta(), automount_service_account_token=False, opts=self.child()
        )
        rights = self._rights(account)
        deployment = self._deployment(settings.metadata["name"], authority.metadata["name"], self.authority, rights)
        service = k8s.core.v1.Service(
            name,
            metadata=self._meta(),
            spec={
                "selector": selector(PART),
                "ports": [{"name": "xds", "port": CONTROL_PORT, "target_port": "xds", "app_protocol": "tcp"}],
            },
            opts=self.child(),
        )
        self.ports = {PART: [CONTROL_PORT]}
        ingress: Any = [
            {
                "from_": [sidecar.admits(), *([scraper()] if args["serves_collector"] else [])],
                "ports": [{"port": "xds"}],
            },
            {"from_": [scraper()], "ports": [{"port": "metrics"}]},
        ]
        network_policy(name, self._meta(), PART, {"policy_types": ["Ingress"], "ingress": ingress}, self.child())
        api_server_outlet(f"{name}-api-server", self._meta(f"{PART}-api-server"), PART, self.child())
        if args["replicas"] > 1:
            k8s.policy.v1.PodDisruptionBudget(
                name,
                metadata=self._meta(),
                spec={"max_unavailable": 1, "selector": {"match_labels": selector(PART)}},
                opts=self.child(),
            )
        self.resources = IstiodResources(deployment, service, roots, issuer)
        self.ready: list[pulumi.Resource] = [deployment, service, trusted]
        """What must be there before a pod with a sidecar starts."""
        probe = "it is ready, and gives sidecars configuration and certificates"
        self.finish({"kind": "Deployment", "namespace": args["namespace"], "name": PART, "probe": probe})

    def _meta(self, name: str = PART) -> Any:
        return {"name": name, "namespace": self._args["namespace"], "labels": labels(PART, "mesh")}

    def _config_map(self, suffix: str, data: Mapping[str, pulumi.Input[str]]) -> k8s.core.v1.ConfigMap:
        """Auto-named: changed content creates a new object and restarts the pods."""
        meta: Any = {"namespace": self._args["namespace"], "labels": labels(PART, "mesh")}
        return k8s.core.v1.ConfigMap(
            f"{self.name}-{suffix}", metadata=meta, data=data, immutable=True, opts=self.child()
        )

    def _authority(
        self,
    ) -> tuple[tuple[tls.SelfSignedCert, ...], tls.LocallySignedCert, k8s.core.v1.Secret, k8s.core.v1.ConfigMap]:
        """The roots, istiod's intermediate below the first one, its key as a Secret, and what sidecars trust."""
        keys, roots = zip(*(self._root(name) for name in self._args["authorities"]), strict=True)
        root_key, root, signer = keys[0], roots[0], self._args["authorities"][0]
        key = tls.PrivateKey(f"{self.name}-issuer-{signer}", algorithm="ECDSA", ecdsa_curve="P256", opts=self.child())
        request = tls.CertRequest(
            f"{self.name}-issuer-{signer}",
            private_key_pem=key.private_key_pem,
            subject={"common_name": "CogniForge mesh, istiod", "organization": "CogniForge"},
            opts=self.child(),
        )
        issuer = tls.LocallySignedCert(
            f"{self.name}-issuer-{signer}",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=root_key.private_key_pem,
            ca_cert_pem=root.cert_pem,
            is_ca_certificate=True,
            validity_period_hours=CA_HOURS,
            allowed_uses=_SIGNS,
            opts=self.child(),
        )
        trusted_pem = _joined(one.cert_pem for one in roots)
        held = k8s.core.v1.Secret(
            f"{self.name}-issuer",
            metadata={"namespace": self._args["namespace"], "labels": labels(PART, "mesh")},
            # Names of the files as istiod looks for them.
            string_data={
                "ca-cert.pem": issuer.cert_pem,
                "ca-key.pem": key.private_key_pem_pkcs8,
                "root-cert.pem": trusted_pem,
                "cert-chain.pem": pulumi.Output.concat(issuer.cert_pem, root.cert_pem),
            },
            immutable=True,
            opts=self.child(),
        )
        trusted = k8s.core.v1.ConfigMap(
            f"{self.name}-root",
            metadata=self._meta(ROOT_MAP),
            data={"root-cert.pem": pulumi.Output.unsecret(trusted_pem)},
            opts=self.child(),
        )
        return roots, issuer, held, trusted

    def _root(self, name: str) -> tuple[tls.PrivateKey, tls.SelfSignedCert]:
        key = tls.PrivateKey(f"{self.name}-root-{name}", algorithm="ECDSA", ecdsa_curve="P256", opts=self.child())
        root = tls.SelfSignedCert(
            f"{self.name}-root-{name}",
            private_key_pem=key.private_key_pem,
            subject={"common_name": f"CogniForge mesh, {name}", "organization": "CogniForge"},
            is_ca_certificate=True,
            validity_period_hours=CA_HOURS,
            allowed_uses=_SIGNS,
            opts=self.child(),
        )
        return key, root

    def _rights(self, account: k8s.core.v1.ServiceAccount) -> list[pulumi.Resource]:
        subject: Any = {"kind": "ServiceAccount", "name": PART, "namespace": self._args["namespace"]}
        group = "rbac.authorization.k8s.io"
        everywhere: Any = {"name": f"{self._args['namespace']}-{PART}", "labels": labels(PART, "mesh")}
        role = k8s.rbac.v1.Role(self.name, metadata=self._meta(), rules=_rules(RULES), opts=self.child())
        cluster = k8s.rbac.v1.ClusterRole(
            self.name, metadata=everywhere, rules=_rules(CLUSTER_RULES), opts=self.child()
        )
        bound = k8s.rbac.v1.RoleBinding(
            self.name,
            metadata=self._meta(),
            role_ref={"api_group": group, "kind": "Role", "name": role.metadata["name"]},
            subjects=[subject],
            opts=self.child(depends_on=[account]),
        )
        bound_everywhere = k8s.rbac.v1.ClusterRoleBinding(
            self.name,
            metadata=everywhere,
            role_ref={"api_group": group, "kind": "ClusterRole", "name": cluster.metadata["name"]},
            subjects=[subject],
            opts=self.child(depends_on=[account]),
        )
        return [bound, bound_everywhere]

    def _deployment(
        self,
        settings: pulumi.Input[str],
        authority: pulumi.Input[str],
        version: pulumi.Input[str],
        after: list[pulumi.Resource],
    ) -> k8s.apps.v1.Deployment:
        environment = {**_SETTINGS, "ISTIO_WATCH_NAMESPACE": self._args["namespace"], "GOMEMLIMIT": "200MiB"}
        fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
        ready: Any = {"http_get": {"path": "/ready", "port": "health"}, "timeout_seconds": 5}
        folders = {"certs": "/var/run/secrets/istio-dns", "clusters": _CLUSTERS, "tmp": "/tmp"}
        container: Any = {
            "name": "discovery",
            "image": self._args["image"],
            "args": [
                "discovery",
                *("--domain", TRUST_DOMAIN),
                *("--httpsAddr=", "--grpcAddr=", f"--monitoringAddr=:{METRICS_PORT}"),
                *("--keepaliveMaxServerConnectionAge", "30m", "--log_output_level=all:warn"),
            ],
            "env": [
                *({"name": key, "value": value} for key, value in environment.items()),
                {"name": "SERVICE_ACCOUNT", "value": PART},
                *({"name": n, "value_from": {"field_ref": {"field_path": path}}} for n, path in fields.items()),
            ],
            "ports": [
                {"name": "xds", "container_port": CONTROL_PORT},
                {"name": "metrics", "container_port": METRICS_PORT},
                {"name": "health", "container_port": HEALTH_PORT},
            ],
            "startup_probe": {**ready, "period_seconds": 1, "failure_threshold": 120},
            "readiness_probe": {**ready, "period_seconds": 3, "failure_threshold": 3},
            "liveness_probe": {
                "tcp_socket": {"port": "xds"},
                "period_seconds": 10,
                "failure_threshold": 6,
                "timeout_seconds": 5,
            },
            "resources": {"requests": {"cpu": "20m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
            "security_context": restricted(),
            "volume_mounts": [
                *({"name": key, "mount_path": path} for key, path in folders.items()),
                {"name": "config", "mount_path": "/etc/istio/config", "read_only": True},
                {"name": "authority", "mount_path": "/etc/cacerts", "read_only": True},
            ],
        }
        pod: Any = {
            "service_account_name": PART,
            "automount_service_account_token": True,
            "enable_service_links": False,
            "termination_grace_period_seconds": 10,
            "topology_spread_constraints": spread(PART),
            "containers": [container],
            "security_context": {"fs_group": NOBODY},
            "volumes": [
                *({"name": key, "empty_dir": {"medium": "Memory", "size_limit": "16Mi"}} for key in folders),
                {"name": "config", "config_map": {"name": settings}},
                secret_files.whole("authority", authority),
            ],
        }
        notes: Any = {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(METRICS_PORT),
            sidecar.AUTHORITY: version,
        }
        return k8s.apps.v1.Deployment(
            self.name,
            metadata=self._meta(),
            spec={
                "replicas": self._args["replicas"],
                "revision_history_limit": 3,
                "progress_deadline_seconds": PROGRESS_DEADLINE_S,
                "selector": {"match_labels": selector(PART)},
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_unavailable": 0, "max_surge": 1}},
                "template": {"metadata": {"labels": labels(PART, "mesh"), "annotations": notes}, "spec": pod},
            },
            opts=self.child(depends_on=after),
        )


def _joined(certificates: Iterable[pulumi.Output[str]]) -> pulumi.Output[str]:
    return pulumi.Output.all(*certificates).apply("".join)


def _rules(rules: tuple[tuple[str, str, tuple[str, ...]], ...]) -> Any:
    return [{"api_groups": [group], "resources": [resource], "verbs": list(verbs)} for group, resource, verbs in rules]


def mesh_config(namespace: str) -> dict[str, Any]:
    """Istio's MeshConfig. Source: istio.io/api, mesh/v1alpha1/config.proto."""
    return {
        # Istio's usual one, which is not there. Istio ignores a PeerAuthentication of a single workload in the root.
        "rootNamespace": NAMESPACE,
        "trustDomain": TRUST_DOMAIN,
        "discoverySelectors": [{"matchLabels": {"kubernetes.io/metadata.name": namespace}}],
        "accessLogFile": "",
        "enablePrometheusMerge": False,
        "enableTracing": False,
        "defaultProviders": {},
        # A rule says for each Service whether its pods have sidecars, so that nothing falls back to plaintext.
        "enableAutoMtls": False,
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        # Retries of requests that the service certainly did not receive.
        "defaultHttpRetryPolicy": {"attempts": 2, "retryOn": "connect-failure,refused-stream,reset-before-request"},
        "meshMTLS": {"minProtocolVersion": "TLSV1_3"},
        "defaultConfig": {"discoveryAddress": f"{PART}.{namespace}.svc:{CONTROL_PORT}"},
    }
