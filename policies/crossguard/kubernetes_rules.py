"""Rules for Kubernetes workloads, charts and data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.observability.log_names import COLLECTOR, COLLECTOR_NAMESPACE, NODE_FOLDER
from policies.crossguard.rule import UNKNOWN, Area, Resource, Rule, known

WORKLOADS = ("kubernetes:apps/v1:*", "kubernetes:batch/v1:*", "kubernetes:core/v1:Pod")
_SERVING = ("kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_TRUSTED_CHARTS = re.compile(
    r"^(https://(charts\.jetstack\.io|helm\.ngc\.nvidia\.com|istio-release\.storage\.googleapis\.com"
    r"|kedacore\.github\.io|charts\.konghq\.com|argoproj\.github\.io)/"
    r"|oci://(public\.ecr\.aws/karpenter|ghcr\.io/kserve)/)"
)


def template(resource: Resource) -> Mapping[str, Any]:
    """Pod template of any workload: metadata and spec."""
    spec = resource.properties.get("spec") or {}
    if resource.type.endswith(":Pod"):
        return resource.properties
    if resource.type.endswith(":ServingRuntime"):
        return {"metadata": {"annotations": spec.get("annotations") or {}}, "spec": spec}
    if resource.type.endswith(":CronJob"):
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    return spec.get("template") or {}


def pod(resource: Resource) -> Mapping[str, Any]:
    """Pod spec of any workload."""
    return template(resource).get("spec") or {}


def containers(resource: Resource) -> list[Mapping[str, Any]]:
    """All containers of a workload, including init containers."""
    spec = pod(resource)
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _each(text: str, broken: Any) -> Any:
    """A check of all containers."""

    def check(resource: Resource) -> Iterator[str]:
        for container in containers(resource):
            if broken(container):
                yield f"{container.get('name')}: {text}"

    return check


def _security(container: Mapping[str, Any], name: str) -> Any:
    return (container.get("securityContext") or {}).get(name)


def _resource(container: Mapping[str, Any], group: str, name: str) -> Any:
    return ((container.get("resources") or {}).get(group) or {}).get(name)


def _no_digest(container: Mapping[str, Any]) -> bool:
    image = known(container, "image")
    return image is not UNKNOWN and not _DIGEST.search(str(image))


def _non_root(resource: Resource) -> Iterator[str]:
    shared = (pod(resource).get("securityContext") or {}).get("runAsNonRoot")
    for container in containers(resource):
        if not (_security(container, "runAsNonRoot") or shared):
            yield f"{container.get('name')}: may run as root"


def _probe(name: str, *excused: str) -> Any:
    """A check for a probe. Containers with only ports of the names `excused` need none."""

    def check(resource: Resource) -> Iterator[str]:
        for container in pod(resource).get("containers") or []:
            ports = {port.get("name") for port in container.get("ports") or []} - {*excused}
            if ports and not container.get(name):
                yield f"{container.get('name')}: has ports, but no {name}"

    return check


def _host(resource: Resource) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod(resource).get(name):
            yield f"{name} is enabled"


def _host_path(resource: Resource) -> Iterator[str]:
    for volume in pod(resource).get("volumes") or []:
        if volume.get("hostPath") and not _reads_logs(resource, volume):
            yield f"volume {volume.get('name')} is a hostPath"


def _reads_logs(resource: Resource, volume: Mapping[str, Any]) -> bool:
    """Whether the volume is the node's logs of pods, which the collector of log lines alone reads."""
    namespace = (resource.properties.get("metadata") or {}).get("namespace")
    account = pod(resource).get("serviceAccountName")
    mounts = [mount for container in containers(resource) for mount in container.get("volumeMounts") or []]
    return (
        (namespace, account) == (COLLECTOR_NAMESPACE, COLLECTOR)
        and volume["hostPath"].get("path") == NODE_FOLDER
        and all(mount.get("readOnly") is True for mount in mounts if mount["name"] == volume["name"])
    )


def _capabilities(container: Mapping[str, Any]) -> bool:
    return "ALL" not in ((_security(container, "capabilities") or {}).get("drop") or [])


def _replicas(resource: Resource) -> Iterator[str]:
    count = (resource.properties.get("spec") or {}).get("replicas") or 1
    if resource.environment == "prod" and count < 2:
        yield "one replica in prod: the failure of a node causes an outage"


def _spread(resource: Resource) -> Iterator[str]:
    spec = pod(resource)
    anti = ((spec.get("affinity") or {}).get("podAntiAffinity")) or {}
    if resource.environment == "prod" and not spec.get("topologySpreadConstraints") and not anti:
        yield "all replicas may run on the same node"


def _token(resource: Resource) -> Iterator[str]:
    spec = pod(resource)
    if spec.get("automountServiceAccountToken") is not False and not known(spec, "serviceAccountName"):
        yield "pods get the token of the default service account"


def _node_port(resource: Resource) -> Iterator[str]:
    if (resource.properties.get("spec") or {}).get("type") == "NodePort":
        yield "a port is open on every node"


def _pod_security(resource: Resource) -> Iterator[str]:
    labels = (resource.properties.get("metadata") or {}).get("labels") or {}
    if not labels.get("pod-security.kubernetes.io/enforce"):
        yield "no Pod Security Standard is enforced"


def _claims_kept(resource: Resource) -> Iterator[str]:
    policy = (resource.properties.get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
    if policy.get("whenDeleted") == "Delete":
        yield "deleting the StatefulSet deletes its data"


def _claim_protected(resource: Resource) -> Iterator[str]:
    if resource.environment in ("staging", "prod") and not resource.protect:
        yield "the claim holds data, and a mistake in the program could delete it"


def _chart_version(resource: Resource) -> Iterator[str]:
    if not resource.properties.get("version"):
        yield "the newest version is installed"


def _chart_source(resource: Resource) -> Iterator[str]:
    chart = str(resource.properties.get("chart"))
    repository = str((resource.properties.get("repositoryOpts") or {}).get("repo") or "")
    source = chart if chart.startswith("oci://") else f"{repository}/"
    if not _TRUSTED_CHARTS.match(source):
        yield f"{source.rstrip('/') or chart} is not a known chart repository"


def _chart_atomic(resource: Resource) -> Iterator[str]:
    if not resource.properties.get("atomic"):
        yield "a failed upgrade is not rolled back"


_RELEASE = ("kubernetes:helm.sh/v3:Release",)
RULES = (
    Rule(
        "k8s-image-by-digest", Area.SUPPLY_CHAIN, "Images are referenced by digest.", "use name@sha256:...", WORKLOADS,
        _each("the image is referenced by a tag", _no_digest), "local",
    ),
    Rule(
        "k8s-memory-limit", Area.WORKLOAD, "Containers have a memory limit.", "set resources.limits.memory", WORKLOADS,
        _each("no memory limit", lambda c: not _resource(c, "limits", "memory")),
    ),
    Rule(
        "k8s-requests", Area.WORKLOAD, "Containers have CPU and memory requests.", "set resources.requests",
        WORKLOADS,
        _each("no request", lambda c: not (_resource(c, "requests", "cpu") and _resource(c, "requests", "memory"))),
    ),
    Rule(
        "k8s-readiness-probe", Area.WORKLOAD, "Servers have a readiness probe.", "add a readinessProbe", _SERVING,
        # Exporters need no readiness probe: clients do not wait for them.
        _probe("readinessProbe", "metrics"),
    ),
    Rule(
        "k8s-liveness-probe", Area.WORKLOAD, "Servers have a liveness probe.", "add a livenessProbe", _SERVING,
        _probe("livenessProbe"),
    ),
    Rule(
        "k8s-non-root", Area.WORKLOAD, "Containers run as non-root.", "set runAsNonRoot to true", WORKLOADS, _non_root,
    ),
    Rule(
        "k8s-no-escalation", Area.WORKLOAD, "Privileges cannot be gained.", "set allowPrivilegeEscalation to false",
        WORKLOADS,
        _each("may gain privileges", lambda c: _security(c, "allowPrivilegeEscalation") is not False),
    ),
    Rule(
        "k8s-read-only-root", Area.WORKLOAD, "Root file systems are read-only.", "set readOnlyRootFilesystem to true",
        WORKLOADS, _each("the root file system can be written", lambda c: not _security(c, "readOnlyRootFilesystem")),
    ),
    Rule(
        "k8s-not-privileged", Area.WORKLOAD, "Containers are not privileged.", "remove privileged", WORKLOADS,
        _each("is privileged", lambda c: _security(c, "privileged")), "local",
    ),
    Rule(
        "k8s-capabilities-dropped", Area.WORKLOAD, "Capabilities are dropped.", "drop ALL", WORKLOADS,
        _each("keeps capabilities", _capabilities),
    ),
    Rule(
        "k8s-no-host-namespaces", Area.EXPOSURE, "Pods do not use the node's namespaces.", "remove host*", WORKLOADS,
        _host,
    ),
    Rule(
        "k8s-no-host-path", Area.EXPOSURE, "Pods do not use the node's folders.", "use a volume claim", WORKLOADS,
        _host_path,
    ),
    Rule(
        "k8s-replicas", Area.WORKLOAD, "Servers have at least two replicas in prod.", "set replicas to 2 or more",
        ("kubernetes:apps/v1:Deployment",), _replicas, "prod",
    ),
    Rule(
        "k8s-spread", Area.WORKLOAD, "Replicas are spread over nodes in prod.", "add topologySpreadConstraints",
        _SERVING, _spread, "prod",
    ),
    Rule(
        "k8s-no-default-token", Area.IAM, "Pods have no unneeded service account token.",
        "set automountServiceAccountToken to false, or name a service account", WORKLOADS, _token,
    ),
    Rule(
        "k8s-no-node-port", Area.EXPOSURE, "No Service has a node port.", "use the gateway",
        ("kubernetes:core/v1:Service",), _node_port,
    ),
    Rule(
        "k8s-pod-security", Area.WORKLOAD, "Namespaces enforce a Pod Security Standard.",
        "label them with pod-security.kubernetes.io/enforce", ("kubernetes:core/v1:Namespace",), _pod_security,
    ),
    Rule(
        "k8s-claims-kept", Area.DATA, "Data outlives the StatefulSet.", "set whenDeleted to Retain",
        ("kubernetes:apps/v1:StatefulSet",), _claims_kept,
    ),
    Rule(
        "k8s-claims-protected", Area.DATA, "Volume claims are protected from deletion.", "set the protect option",
        ("kubernetes:core/v1:PersistentVolumeClaim",), _claim_protected, "staging",
    ),
    Rule(
        "chart-pinned", Area.SUPPLY_CHAIN, "Charts have a version.", "set version", _RELEASE, _chart_version, "local",
    ),
    Rule(
        "chart-from-known-repository", Area.SUPPLY_CHAIN, "Charts come from known repositories.",
        "use a chart of versions.lock.yaml", _RELEASE, _chart_source,
    ),
    Rule(
        "chart-atomic", Area.OPERATIONS, "A failed chart upgrade is rolled back.", "set atomic to true", _RELEASE,
        _chart_atomic,
    ),
)  # fmt: skip
