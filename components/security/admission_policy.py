"""Admission policies: which pods may run in the platform's namespaces, and which objects may not be deleted there.

The API server itself enforces two ValidatingAdmissionPolicies for the namespaces of one environment, by their label
`cogniforge.dev/admission`. They do not apply to other namespaces or to cluster-wide objects such as nodes. They need no
webhook, so a stopped cluster can start again without any pod running first. They check pods instead of the workloads
that create pods: if an update has just changed the list of images, controllers retry until the new list is in force.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, NotRequired, Self, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pydantic import Field, model_validator

from components.base import ADMISSION_LABEL, PlatformComponent, labels
from components.config.problems import violation
from components.inputs import Inputs, Text, checked
from components.observability.log_names import NODE_FOLDER

PART = "admission"
DEFAULT_MEMORY = "256Mi"
"""Default memory limit of containers that set none, such as helpers. All parts set their own limits."""
DELETION_ALLOWED = "cogniforge.dev/deletion-allowed"
"""Annotation of a volume claim, a StatefulSet or a namespace. The value "true" allows its deletion."""
UPSTREAM_IMAGES: dict[str, tuple[str, ...]] = {
    "kong": ("kong/kong:", "kong/kubernetes-ingress-controller:", "kong/kong-gateway:"),
    "kserve": ("kserve/storage-initializer:",),
    "istio": ("docker.io/istio/proxyv2:", "gcr.io/istio-release/proxyv2:", "registry.istio.io/release/proxyv2:"),
}
"""Prefixes of image references that third-party charts run in the platform's namespaces, by chart.

The charts are pinned by version, but their images by tag only.
"""

_IMAGES = """
{pod}.containers.map(c, c.image)
+ (has({pod}.initContainers) ? {pod}.initContainers.map(c, c.image) : [])
+ (has({pod}.ephemeralContainers) ? {pod}.ephemeralContainers.map(c, c.image) : [])
"""
_CONTAINERS = "object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : [])"
_UNMOUNTED = "!has(v.hostPath)"
_NEW = "request.operation != 'CREATE' || "


class AdmissionPolicyArgs(TypedDict):
    """Inputs of the policies."""

    namespace: pulumi.Input[str]
    """Value of the label cogniforge.dev/admission of the namespaces for which the policies hold; one of them has this
    name. The policies' names begin with it."""
    images: Sequence[str]
    """Allowed image references by digest: those of this release, and those that a rollout replaces."""
    upstream: NotRequired[Sequence[str]]
    """Charts that run pods in these namespaces: "kong", "kserve" or "istio". Default: none."""
    log_reader: NotRequired[str]
    """Namespace and service account, as "namespace/name", whose pods may read /var/log/pods of their node. Default:
    none."""
    guard_data: NotRequired[bool]
    """Whether to refuse the deletion of volume claims, StatefulSets with volumes, and namespaces. Default true."""


class AdmissionPolicyInputs(Inputs):
    """What `AdmissionPolicyArgs` may hold."""

    namespace: Text = Field(description="Value of the label of the namespaces for which the policies hold")
    images: list[str] = Field(description="Allowed image references by digest")
    upstream: list[str] = Field(default_factory=list[str], description="Charts that run pods in these namespaces")
    log_reader: str = Field(
        default="",
        pattern="^([a-z0-9-]+/[a-z0-9-]+)?$",
        description="Account whose pods may read the node's logs of pods",
    )
    guard_data: bool = Field(default=True, description="Whether to refuse the deletion of data")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := sorted({*self.upstream} - {*UPSTREAM_IMAGES}):
            raise violation(f"upstream has {', '.join(unknown)}; known are {', '.join(UPSTREAM_IMAGES)}", "remove it")
        return self


class AdmissionPolicyResources(NamedTuple):
    """Resources of the policies."""

    limits: k8s.core.v1.LimitRange
    pods: k8s.admissionregistration.v1.ValidatingAdmissionPolicy
    data: k8s.admissionregistration.v1.ValidatingAdmissionPolicy | None
    """Where data is guarded."""


class AdmissionPolicy(PlatformComponent):
    """The policies and their bindings. Workloads depend on this component, so that their images are allowed in time."""

    def __init__(self, name: str, args: AdmissionPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(AdmissionPolicyInputs, self, name, args)
        super().__init__("security", name, {"guard_data": inputs.guard_data}, opts)
        self._name, self._namespace = name, pulumi.Output.from_input(inputs.namespace)
        limits = k8s.core.v1.LimitRange(
            name,
            metadata={"name": PART, "namespace": self._namespace, "labels": labels(PART, "security")},
            spec={
                "limits": [
                    {
                        "type": "Container",
                        "default": {"memory": DEFAULT_MEMORY},
                        "default_request": {"memory": DEFAULT_MEMORY},
                    }
                ]
            },
            opts=self.child(),
        )
        pods, data = self._bind("pods", self._pods(inputs)), None
        if inputs.guard_data:
            data = self._bind("data", _data(self._namespaces()))
        self.resources = AdmissionPolicyResources(limits, pods, data)
        self.finish(
            {
                "kind": "ValidatingAdmissionPolicy",
                "namespace": "",
                "name": self._called("pods"),
                "probe": "a pod with another image is refused",
            }
        )

    def _namespaces(self) -> Any:
        """Selector of this environment's namespaces, so that environments in one cluster do not affect each other."""
        return {"match_labels": {ADMISSION_LABEL: self._namespace}}

    def _pods(self, inputs: AdmissionPolicyInputs) -> Any:
        spec = _pods(self._namespaces(), inputs.images, inputs.upstream)
        if inputs.log_reader:
            _admit_log_reader(spec, *inputs.log_reader.split("/"))
        return spec

    def _called(self, what: str) -> pulumi.Output[str]:
        return self._namespace.apply(lambda namespace: f"{namespace}-{what}")

    def _bind(self, what: str, spec: Any) -> k8s.admissionregistration.v1.ValidatingAdmissionPolicy:
        metadata: Any = {"name": self._called(what), "labels": labels(PART, "security")}
        policy = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{self._name}-{what}", metadata=metadata, spec=spec, opts=self.child()
        )
        k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{self._name}-{what}",
            metadata=metadata,
            spec={
                "policy_name": policy.metadata["name"],
                "validation_actions": ["Deny", "Audit"],
                "match_resources": {"namespace_selector": self._namespaces()},
            },
            opts=self.child(depends_on=[policy]),
        )
        return policy


def _rule(groups: list[str], resources: list[str], operations: list[str]) -> Any:
    versions = {"": "v1", "apps": "v1"}
    return {
        "api_groups": groups,
        "api_versions": sorted({versions[group] for group in groups}),
        "operations": operations,
        "resources": resources,
        "scope": "*",
    }


def _pods(namespaces: Any, images: Sequence[str], upstream: Sequence[str]) -> Any:
    """Policy for pods: images of the release only, restricted containers, a memory limit, no access to the node."""
    prefixes = [prefix for key in upstream for prefix in UPSTREAM_IMAGES[key]]
    strangers = (
        f"({_IMAGES.format(pod='object.spec')}).filter(i, !(i in variables.admitted) && !(i in variables.before)"
        " && !variables.upstream.exists(p, i.startsWith(p)))"
    )
    contained = (
        "has(c.securityContext) && has(c.securityContext.allowPrivilegeEscalation)"
        " && !c.securityContext.allowPrivilegeEscalation"
        " && (!has(c.securityContext.privileged) || !c.securityContext.privileged)"
        " && has(c.securityContext.capabilities) && has(c.securityContext.capabilities.drop)"
        " && c.securityContext.capabilities.drop.exists(d, d == 'ALL')"
    )
    unshared = " && ".join(
        f"(!has(object.spec.{f}) || !object.spec.{f})" for f in ("hostNetwork", "hostPID", "hostIPC")
    )
    limited = "has(c.resources) && has(c.resources.limits) && 'memory' in c.resources.limits"
    return {
        "failure_policy": "Fail",
        "match_constraints": {
            "namespace_selector": namespaces,
            "resource_rules": [_rule([""], ["pods", "pods/ephemeralcontainers"], ["CREATE", "UPDATE"])],
        },
        "variables": [
            {"name": "admitted", "expression": json.dumps(sorted(set(images)))},
            {"name": "upstream", "expression": json.dumps(sorted(prefixes))},
            {"name": "before", "expression": f"oldObject == null ? [] : ({_IMAGES.format(pod='oldObject.spec')})"},
            {"name": "strangers", "expression": strangers},
            {"name": "containers", "expression": _CONTAINERS},
        ],
        "validations": [
            {
                "expression": "size(variables.strangers) == 0",
                "message_expression": "'the image is not part of this release: ' + variables.strangers.join(', ')",
                "reason": "Forbidden",
            },
            {
                "expression": f"{_NEW}variables.containers.all(c, {limited})",
                "message": "every container must set resources.limits.memory",
                "reason": "Forbidden",
            },
            {
                "expression": f"{_NEW}!has(object.spec.volumes) || object.spec.volumes.all(v, {_UNMOUNTED})",
                "message": "a pod must not mount a path of its node (hostPath)",
                "reason": "Forbidden",
            },
            {
                "expression": f"{_NEW}({unshared})",
                "message": "a pod must not share its node's network, processes or IPC (hostNetwork, hostPID, hostIPC)",
                "reason": "Forbidden",
            },
            {
                "expression": f"{_NEW}variables.containers.all(c, {contained})",
                "message": "every container must drop all capabilities and set allowPrivilegeEscalation to false",
                "reason": "Forbidden",
            },
        ],
    }


def _admit_log_reader(spec: Any, namespace: str, account: str) -> None:
    """Admit the folder with the logs of pods, for reading, to pods of an account.

    Pod Security does not restrict pods of that namespace, or it would refuse the folder. So the policy restricts them.
    """
    reader = f"request.namespace == '{namespace}' && object.spec.serviceAccountName == '{account}'"
    for one in spec["validations"]:
        folder = f"({_UNMOUNTED} || ({reader} && v.hostPath.path == '{NODE_FOLDER}'))"
        one["expression"] = one["expression"].replace(f"volumes.all(v, {_UNMOUNTED})", f"volumes.all(v, {folder})")
    mounted = "object.spec.volumes.exists(v, has(v.hostPath) && v.name == m.name)"
    contained = (
        "has(c.securityContext.runAsNonRoot) && c.securityContext.runAsNonRoot"
        " && has(c.securityContext.seccompProfile) && c.securityContext.seccompProfile.type == 'RuntimeDefault'"
        " && !has(c.securityContext.capabilities.add)"
        " && (!has(c.ports) || c.ports.all(p, !has(p.hostPort) || p.hostPort == 0))"
    )
    spec["validations"] += [
        {
            "expression": (
                f"{_NEW}variables.containers.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m,"
                f" !has(object.spec.volumes) || !({mounted}) || (has(m.readOnly) && m.readOnly)))"
            ),
            "message": f"a container must mount {NODE_FOLDER} with readOnly",
            "reason": "Forbidden",
        },
        {
            "expression": (
                f"{_NEW}request.namespace != '{namespace}' || variables.containers.all(c, has(c.securityContext)"
                f" && has(c.securityContext.capabilities) && {contained})"
            ),
            "message": (
                f"every container of the namespace {namespace} must set runAsNonRoot and seccompProfile RuntimeDefault,"
                " add no capability, and take no port of its node"
            ),
            "reason": "Forbidden",
        },
    ]


def _data(namespaces: Any) -> Any:
    """Policy that refuses the deletion of objects that hold data."""
    annotations = "has(oldObject.metadata.annotations)"
    allowed = f"{annotations} && oldObject.metadata.annotations[?'{DELETION_ALLOWED}'].orValue('') == 'true'"
    empty = "oldObject.kind == 'StatefulSet' && !has(oldObject.spec.volumeClaimTemplates)"
    return {
        "failure_policy": "Fail",
        "match_constraints": {
            "namespace_selector": namespaces,
            "resource_rules": [
                _rule([""], ["persistentvolumeclaims", "namespaces"], ["DELETE"]),
                _rule(["apps"], ["statefulsets"], ["DELETE"]),
            ],
        },
        "validations": [
            {
                "expression": f"({empty}) || ({allowed})",
                "message_expression": (
                    "oldObject.kind + ' ' + oldObject.metadata.name + ' contains data: set data.destroyData and run "
                    f"forge up, or annotate it with {DELETION_ALLOWED}=true'"
                ),
                "reason": "Forbidden",
            }
        ],
    }
