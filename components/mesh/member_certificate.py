"""A certificate of the mesh as files in a pod without a sidecar, for a client that encrypts by itself.

Istio's agent runs beside the client without Envoy: it asks istiod for a certificate of the pod's service account, and
replaces the files when half of the certificate's validity is over. Source of its settings: Istio 1.31,
pkg/istio-agent/agent.go (DISABLE_ENVOY, OUTPUT_CERTS).
"""

from __future__ import annotations

from typing import Any, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.ai.service import restricted
from components.base import labels
from components.mesh.sidecar import (
    AGENT_FIELDS,
    AGENT_PORT,
    AUTHORITY,
    ROOT_FOLDER,
    ROOT_MAP,
    STATE_FOLDER,
    TOKEN_FOLDER,
    agent_environment,
    credentials,
    variables,
)

CONTAINER = "mesh-certificate"
FOLDER = "/var/run/mesh-certificate"
"""Folder in the client's container."""
KEY, CHAIN, ROOT = (f"{FOLDER}/{file}.pem" for file in ("key", "cert-chain", "root-cert"))
"""Files as Istio's agent names them: the private key, the certificate with its issuer, and the mesh's authority."""
_RESOURCES = {"requests": {"cpu": "5m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
_STATEFUL_SET = "kubernetes:apps/v1:StatefulSet"
_FILES, _STATE = "mesh-certificate", "mesh-agent"


class MemberArgs(TypedDict):
    """What a pod needs to get a certificate of the mesh."""

    control_namespace: str
    """Namespace of istiod."""
    image: pulumi.Input[str]
    """Image with Istio's agent, by digest."""
    trusted: pulumi.Input[str]
    """Certificates of the mesh's authorities (PEM)."""
    authority: pulumi.Input[str]
    """A value that changes with the authorities. The pods restart then."""
    certificate_minutes: int
    """Validity of the certificate."""


class MemberCertificate:
    """The certificate of the pods of one StatefulSet, in a namespace of its own."""

    def __init__(self, args: MemberArgs, client: str) -> None:
        """`client`: the container that reads the files. It starts once they are there."""
        self._args, self._client = args, client

    def trusted(
        self, name: str, namespace: pulumi.Input[str], part: str, opts: pulumi.ResourceOptions
    ) -> k8s.core.v1.ConfigMap:
        """The ConfigMap by which the agent verifies istiod, in the namespace of the pods."""
        return k8s.core.v1.ConfigMap(
            name,
            metadata={"name": ROOT_MAP, "namespace": namespace, "labels": labels(part, "mesh")},
            data={"root-cert.pem": pulumi.Output.unsecret(pulumi.Output.from_input(self._args["trusted"]))},
            opts=opts,
        )

    def transformation(self, given: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        """Add the agent to a StatefulSet. For `ResourceOptions`."""
        if given.type_ != _STATEFUL_SET:
            return None
        inputs: Any = given.props
        template: Any = inputs["spec"]["template"]
        pod = template["spec"]
        mounted = {"name": _FILES, "mount_path": FOLDER, "read_only": True}
        containers = [
            {**one, "volume_mounts": [*one["volume_mounts"], mounted]} if one["name"] == self._client else one
            for one in pod["containers"]
        ]
        # The private key must not reach a disk.
        made = [{"name": n, "empty_dir": {"medium": "Memory", "size_limit": "1Mi"}} for n in (_FILES, _STATE)]
        changed = {
            **pod,
            "init_containers": [self._agent(), *pod.get("init_containers", [])],
            "containers": containers,
            "volumes": [*pod["volumes"], *made, *credentials()],
        }
        meta = template["metadata"]
        notes = {**meta.get("annotations", {}), AUTHORITY: self._args["authority"]}
        made_of = {"metadata": {**meta, "annotations": notes}, "spec": changed}
        spec = {**inputs["spec"], "template": {**template, **made_of}}
        return pulumi.ResourceTransformationResult({**inputs, "spec": spec}, given.opts)

    def _agent(self) -> dict[str, Any]:
        args = self._args
        environment = {
            **agent_environment(args["control_namespace"], args["certificate_minutes"], {}),
            "DISABLE_ENVOY": "true",
            "OUTPUT_CERTS": FOLDER,
        }
        folders = {_FILES: FOLDER, _STATE: STATE_FOLDER}
        fixed = {"istio-token": TOKEN_FOLDER, "istio-ca-cert": ROOT_FOLDER}
        # Ready means that all files are there: the agent checks those that its bootstrap for gRPC clients names.
        health = {"http_get": {"path": "/healthz/ready", "port": AGENT_PORT}, "timeout_seconds": 3}
        return {
            "name": CONTAINER,
            "image": args["image"],
            "args": ["proxy", "sidecar", "--log_output_level=all:warn"],
            "restart_policy": "Always",
            "env": variables(environment, AGENT_FIELDS),
            "startup_probe": {**health, "period_seconds": 1, "failure_threshold": 180},
            "resources": _RESOURCES,
            "security_context": restricted(),
            "volume_mounts": [
                *({"name": name, "mount_path": path} for name, path in folders.items()),
                *({"name": name, "mount_path": path, "read_only": True} for name, path in fixed.items()),
            ],
        }
