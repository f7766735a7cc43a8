"""Readiness of objects, and the reasons why they are not ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from local.providers.kubernetes import wait_for
from local.providers.kubernetes.cluster import ApiError, Cluster, NotFound, Object, Unreachable

SKIP_AWAIT = "pulumi.com/skipAwait"
TIMEOUT = "pulumi.com/timeoutSeconds"
DELETION_PROPAGATION = "pulumi.com/deletionPropagationPolicy"

_WAITING_PROBLEMS = {
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "ErrImageNeverPull",
}

_CRASHES = {"CrashLoopBackOff", "RunContainerError", "CreateContainerError"}
_CRASHES_ENOUGH = 2
"""Number of restarts after which a container has failed: half a minute with the kubelet's back-off of 10 s and 20 s."""
_IMAGE_PATIENCE_S = 40


@dataclass
class State:
    """Readiness of an object at one moment."""

    ready: bool
    progress: str = ""
    failed: str = ""
    """Reason why waiting longer is useless; empty otherwise."""
    problems: list[str] = field(default_factory=list[str])
    """Current problems that may disappear."""


def _condition(obj: Object, kind: str) -> Object:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind), {})


def _observed(obj: Object) -> bool:
    return (obj.get("status") or {}).get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)


def _selected_pods(cluster: Cluster, obj: Object) -> list[Object]:
    labels = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    if not labels:
        return []
    selector = ",".join(f"{k}={v}" for k, v in labels.items())
    return cluster.list("v1", "Pod", obj["metadata"].get("namespace"), labelSelector=selector)


def pod_problems(cluster: Cluster, pod: Object) -> list[str]:
    """Reasons why a pod is not ready: scheduling, images, crashes with last log lines, failing probes."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    found: list[str] = []
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        found.append(f"pod {name} cannot be scheduled: {scheduled.get('message', scheduled.get('reason'))}")
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state, last = container.get("state") or {}, container.get("lastState") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or last.get("terminated") or {}
        label = f"container {container['name']} of pod {name}"
        if waiting.get("reason") in _WAITING_PROBLEMS:
            found.append(f"{label}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
        if ended and ended.get("exitCode"):
            cause = f"{label} exited with code {ended['exitCode']} ({ended.get('reason', 'Error')})"
            lines = cluster.logs(namespace, name, container["name"], previous="running" not in state and bool(last))
            lines = lines or cluster.logs(namespace, name, container["name"], previous=False)
            found.append(cause + (f"; its last lines:\n{_indent(lines)}" if lines else ""))
    return found


def hopeless(pod: Object, now: datetime | None = None) -> str:
    """Reason why waiting longer for a pod is useless: repeated crashes, or an image that cannot be pulled."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    born = datetime.fromisoformat(pod["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    age_s = ((now or datetime.now(UTC)) - born).total_seconds()
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
        if reason in _CRASHES and container.get("restartCount", 0) >= _CRASHES_ENOUGH:
            return f"container {container['name']} of pod {name} did not stay up {container['restartCount'] + 1} times"
        if reason in _WAITING_PROBLEMS - _CRASHES and age_s > _IMAGE_PATIENCE_S:
            return f"container {container['name']} of pod {name}: {reason} for {age_s:.0f} s"
    return ""


def _indent(text: str) -> str:
    return "\n".join(f"    | {line}" for line in text.strip().splitlines()[-10:])


def warning_events(cluster: Cluster, obj: Object) -> list[str]:
    """The object's Warning events, newest last."""
    meta = obj["metadata"]
    selector = f"involvedObject.name={meta['name']},involvedObject.kind={obj['kind']},type=Warning"
    try:
        events = cluster.list("v1", "Event", meta.get("namespace") or "default", fieldSelector=selector)
    except (ApiError, Unreachable):
        return []
    return [f"{e.get('reason')}: {e.get('message')}" for e in events[-5:]]


def _workload_problems(cluster: Cluster, obj: Object) -> list[str]:
    found: list[str] = []
    for pod in _selected_pods(cluster, obj):
        if _condition(pod, "Ready").get("status") != "True" and not pod["metadata"].get("deletionTimestamp"):
            found += pod_problems(cluster, pod) or warning_events(cluster, {**pod, "kind": "Pod"})
    return found


def _deployment(cluster: Cluster, obj: Object) -> State:
    wanted = obj["spec"].get("replicas", 1)
    status = obj.get("status") or {}
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    total = status.get("replicas", 0)
    progressing, failure = _condition(obj, "Progressing"), _condition(obj, "ReplicaFailure")
    if obj["spec"].get("paused") and _observed(obj):
        return State(True)  # the rollout is paused, so nothing more will happen
    ready = _observed(obj) and updated >= wanted and available >= wanted and total == updated
    if ready:
        return State(True)
    problems = _workload_problems(cluster, obj)
    if failure.get("status") == "True":
        problems.append(f"{failure.get('reason')}: {failure.get('message')}")
    failed = ""
    if _observed(obj) and progressing.get("reason") == "ProgressDeadlineExceeded":
        failed = f"made no progress for {obj['spec'].get('progressDeadlineSeconds', 600)} s"
    failed = failed or next((why for pod in _newest(cluster, obj) if (why := hopeless(pod))), "")
    return State(False, f"{min(updated, available)} of {wanted} updated replicas available", failed, problems)


def _newest(cluster: Cluster, obj: Object) -> list[Object]:
    """Pods of a Deployment's current template."""
    pods = [p for p in _selected_pods(cluster, obj) if not p["metadata"].get("deletionTimestamp")]
    newest = max(pods, key=lambda p: p["metadata"]["creationTimestamp"], default=None)
    label = "pod-template-hash"
    wanted = newest["metadata"].get("labels", {}).get(label) if newest and _observed(obj) else None
    return [p for p in pods if wanted and p["metadata"].get("labels", {}).get(label) == wanted]


def _stateful_set(cluster: Cluster, obj: Object) -> State:
    wanted = obj["spec"].get("replicas", 1)
    status = obj.get("status") or {}
    ready_replicas = status.get("readyReplicas", 0)
    if _observed(obj) and ready_replicas >= wanted and status.get("updatedReplicas", 0) >= _to_update(obj["spec"]):
        return State(True)
    newest = [
        pod
        for pod in _selected_pods(cluster, obj)
        if pod["metadata"].get("labels", {}).get("controller-revision-hash") == status.get("updateRevision")
    ]
    failed = next((why for pod in newest if _observed(obj) and (why := hopeless(pod))), "")
    return State(False, f"{ready_replicas} of {wanted} replicas ready", failed, _workload_problems(cluster, obj))


def _by_hand(spec: Object) -> bool:
    """Whether pods get a new template only after they are deleted (OnDelete)."""
    return (spec.get("updateStrategy") or {}).get("type") == "OnDelete"


def _to_update(spec: Object) -> int:
    """Number of pods of a StatefulSet that the controller updates to the newest template by itself.

    Source: `kubectl rollout status`, polymorphichelpers/rollout_status.go of v1.34.
    """
    if _by_hand(spec):
        return 0
    partition = ((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0
    return spec.get("replicas", 1) - partition


def _daemon_set(cluster: Cluster, obj: Object) -> State:
    status = obj.get("status") or {}
    wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    updated = wanted if _by_hand(obj["spec"]) else status.get("updatedNumberScheduled", 0)
    if _observed(obj) and available >= wanted and updated >= wanted:
        return State(True)
    progress = f"{min(available, updated)} of {wanted} nodes updated and available"
    return State(False, progress, problems=_workload_problems(cluster, obj))


def _replicas(cluster: Cluster, obj: Object) -> State:
    """A ReplicaSet or ReplicationController that the program declares directly."""
    wanted, available = obj["spec"].get("replicas", 1), (obj.get("status") or {}).get("availableReplicas", 0)
    if _observed(obj) and available >= wanted:
        return State(True)
    return State(False, f"{available} of {wanted} replicas available", problems=_workload_problems(cluster, obj))


def _job(cluster: Cluster, obj: Object) -> State:
    if obj["spec"].get("suspend"):
        return State(True)
    if _condition(obj, "Complete").get("status") == "True":
        return State(True)
    selector = f"batch.kubernetes.io/job-name={obj['metadata']['name']}"
    pods = cluster.list("v1", "Pod", obj["metadata"].get("namespace"), labelSelector=selector)
    problems = [line for pod in pods for line in pod_problems(cluster, pod)]
    failure = _condition(obj, "Failed")
    failed = f"{failure.get('reason')}: {failure.get('message')}" if failure.get("status") == "True" else ""
    done = (obj.get("status") or {}).get("succeeded", 0)
    return State(False, f"{done} of {obj['spec'].get('completions', 1)} completions", failed, problems)


def _pod(cluster: Cluster, obj: Object) -> State:
    phase = (obj.get("status") or {}).get("phase")
    if phase == "Succeeded" or _condition(obj, "Ready").get("status") == "True":
        return State(True)
    failed = "the pod failed" if phase == "Failed" else ""
    return State(False, f"phase {phase}", failed, pod_problems(cluster, obj))


def _claim(cluster: Cluster, obj: Object) -> State:
    phase = (obj.get("status") or {}).get("phase")
    if phase == "Bound":
        return State(True)
    name = obj["spec"].get("storageClassName")
    if name and phase == "Pending":
        try:
            storage_class = cluster.get("storage.k8s.io/v1", "StorageClass", None, name)
        except NotFound:
            return State(False, f"there is no StorageClass {name} yet")
        if storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
            return State(True)  # it binds when its first pod is scheduled
    failed = "the volume behind the claim was lost" if phase == "Lost" else ""
    return State(False, f"phase {phase}", failed, warning_events(cluster, obj))


def _service(cluster: Cluster, obj: Object) -> State:
    spec = obj["spec"]
    if spec.get("type") == "LoadBalancer" and not ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
        return State(False, "waiting for an address", problems=warning_events(cluster, obj))
    return State(True)


def _ingress(cluster: Cluster, obj: Object) -> State:
    if ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
        return State(True)
    return State(
        False, "waiting for an ingress controller to give it an address", problems=warning_events(cluster, obj)
    )


def _volume(cluster: Cluster, obj: Object) -> State:
    status = obj.get("status") or {}
    phase = status.get("phase")
    return State(
        phase in ("Available", "Bound"), f"phase {phase}", status.get("message", "") if phase == "Failed" else ""
    )


def _quota(cluster: Cluster, obj: Object) -> State:
    enforced = (obj.get("status") or {}).get("hard") == obj["spec"].get("hard")
    return State(enforced, "waiting for the limits to be in force")


def _secret(cluster: Cluster, obj: Object) -> State:
    waits = obj.get("type") == "kubernetes.io/service-account-token" and not obj.get("data")
    return State(not waits, "waiting for the token")


def _crd(cluster: Cluster, obj: Object) -> State:
    names = _condition(obj, "NamesAccepted")
    if _condition(obj, "Established").get("status") == "True":
        return State(True)
    failed = names.get("message", "") if names.get("status") == "False" else ""
    return State(False, "waiting to be established", failed)


_CHECKS: dict[tuple[str, str], Callable[[Cluster, Object], State]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "ReplicaSet"): _replicas,
    ("", "ReplicationController"): _replicas,
    ("batch", "Job"): _job,
    ("", "Pod"): _pod,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume,
    ("", "ResourceQuota"): _quota,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _crd,
}


def _custom(obj: Object, annotation: str) -> State:
    """Whether all rules of the annotation hold."""
    try:
        rules = wait_for.parse(annotation)
    except wait_for.RuleError as error:
        return State(False, failed=f"{wait_for.ANNOTATION}: {error}")
    missing = sum(not rule.holds(obj) for rule in rules)
    return State(missing == 0, f"waiting for {annotation}: {missing} of {len(rules)} do not hold yet")


def look(cluster: Cluster, obj: Object) -> State:
    """Current readiness of an object. Kinds without a rule are ready once they exist."""
    if rule := (obj["metadata"].get("annotations") or {}).get(wait_for.ANNOTATION):
        return _custom(obj, rule)
    group = obj["apiVersion"].rpartition("/")[0]
    check = _CHECKS.get((group, obj["kind"]))
    return check(cluster, obj) if check else State(True)


def skipped(obj: Object) -> bool:
    """Whether an annotation disables waiting."""
    return (obj["metadata"].get("annotations") or {}).get(SKIP_AWAIT) == "true"
