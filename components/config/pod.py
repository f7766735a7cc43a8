"""Settings of pods that the platform has no opinion on: where they run, their priority, and what they carry.

Every workload's section has them under `pod`, and every component that makes pods takes them as `customize`.
Values follow the rules of Kubernetes' own API; what the platform sets itself cannot be overwritten.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from components.config.affinity import Affinity
from components.config.base import (
    Change,
    Cpu,
    LabelKey,
    LabelValue,
    Memory,
    Section,
    VariableName,
    matching,
    optional_section,
    setting,
    several,
)
from components.config.problems import violation

RESERVED = ("app.kubernetes.io", "cogniforge.dev", "prometheus.io", "serving.kserve.io")
"""Prefixes of labels and annotations that belong to the platform, and to what finds its pods by them."""
ANNOTATIONS_BYTES = 256 * 1024
"""All annotations of a pod together. Source: Kubernetes' validation, `TotalAnnotationSizeLimitB`."""


def _not_reserved(key: str) -> str:
    prefix = key.rpartition("/")[0]
    if any(prefix == one or prefix.endswith(f".{one}") for one in RESERVED):
        raise violation(f"no key below {', '.join(RESERVED)}: these are the platform's", "use a prefix of your own")
    return key


OwnKey = Annotated[LabelKey, AfterValidator(_not_reserved)]
"""A key of a label or an annotation that is not the platform's."""


class TolerationOperator(StrEnum):
    """How a toleration's value is compared with the taint's."""

    EQUAL = "Equal"
    EXISTS = "Exists"
    """Any value."""


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Section):
    """A taint of nodes that does not keep the pods away."""

    key: LabelKey | None = setting(Change.DISRUPTIVE, "Key of the taint; none: all taints", default=None)
    operator: TolerationOperator = setting(
        Change.DISRUPTIVE, "Equal or Exists", default=TolerationOperator.EQUAL, strict=False
    )
    value: LabelValue | None = setting(Change.DISRUPTIVE, "Value of the taint, with Equal", default=None)
    effect: TaintEffect | None = setting(
        Change.DISRUPTIVE, "NoSchedule, PreferNoSchedule or NoExecute; none: all", default=None, strict=False
    )
    toleration_seconds: int | None = setting(
        Change.DISRUPTIVE, "With NoExecute: how long a pod stays on the node; none: for ever", default=None, ge=0
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.key is None and self.operator is not TolerationOperator.EXISTS:
            raise violation("without a key, operator Exists", "add the key of the taint, or set operator: Exists")
        if self.operator is TolerationOperator.EXISTS and self.value:
            raise violation("operator Exists takes no value", "remove value, or set operator: Equal")
        if self.toleration_seconds is not None and self.effect is not TaintEffect.NO_EXECUTE:
            raise violation("tolerationSeconds belongs to effect NoExecute", "set effect: NoExecute, or remove it")
        return self


class Placement(Section):
    """Where pods run, their priority, and their labels and annotations."""

    node_selector: dict[LabelKey, LabelValue] = setting(
        Change.DISRUPTIVE, "Labels that a node must have", default_factory=dict[str, str], max_length=50
    )
    tolerations: tuple[Toleration, ...] = several(
        Change.DISRUPTIVE, "Taints of nodes that do not keep the pods away", 50
    )
    affinity: Affinity | None = setting(
        Change.DISRUPTIVE, "Where pods run, relative to nodes and to other pods", default=None
    )
    priority_class_name: Annotated[
        str,
        Field(max_length=253),
        matching(
            r"|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            "the name of a PriorityClass: lower-case letters, digits, hyphens and dots (RFC 1123)",
            'write it like "high-priority"',
        ),
    ] = setting(Change.DISRUPTIVE, "A PriorityClass of the cluster; empty: the cluster's default", default="")
    labels: dict[OwnKey, LabelValue] = setting(
        Change.DISRUPTIVE, "Labels of the pods besides the platform's", default_factory=dict[str, str], max_length=50
    )
    annotations: dict[OwnKey, str] = setting(
        Change.DISRUPTIVE,
        "Annotations of the pods besides the platform's",
        default_factory=dict[str, str],
        max_length=100,
    )

    @model_validator(mode="after")
    def _annotations_fit(self) -> Self:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in self.annotations.items())
        if size > ANNOTATIONS_BYTES:
            raise violation(
                f"annotations of at most {ANNOTATIONS_BYTES} bytes together; there are {size}", "shorten or remove some"
            )
        return self


class Pod(Placement):
    """Settings of a workload's pods."""

    environment: dict[VariableName, str] = setting(
        Change.DISRUPTIVE,
        "Variables of the main container besides the platform's",
        default_factory=dict[str, str],
        max_length=100,
    )


class ContainerResources(Section):
    """What a container may use. A field that is left out stays as the platform sets it."""

    cpu: Cpu | None = setting(Change.DISRUPTIVE, "CPU request, such as 50m", default=None)
    memory: Memory | None = setting(Change.DISRUPTIVE, "Memory request and limit, such as 64Mi", default=None)


def pod_setting(pod: type[Placement] = Pod, about: str = "Where the pods run, and what they carry") -> Any:
    """The field `pod` of a workload's section. A dump of the configuration leaves it out while it is empty."""
    empty = pod()
    return optional_section(Change.DISRUPTIVE, about, pod, exclude_if=empty.__eq__)


def sidecar(purpose: str) -> Any:
    """A field with the resources of a container beside the main one."""
    return optional_section(Change.DISRUPTIVE, purpose, ContainerResources)


def sidecars(containers: type[Section]) -> Any:
    """The field `sidecars` of a pod."""
    return optional_section(Change.DISRUPTIVE, "Resources of the other containers", containers)


def placed_only(pod: Pod, elsewhere: str) -> None:
    """Raise where settings of containers are given for a server that runs elsewhere; only its tasks have pods."""
    empty = type(pod)()
    if any(
        getattr(pod, name) != getattr(empty, name) for name in type(pod).model_fields.keys() - Placement.model_fields
    ):
        raise violation(
            f"with {elsewhere}, pod holds for the tasks of the part: no environment, no sidecars",
            f"remove environment and sidecars from pod, or remove {elsewhere}",
        )


class ExporterSidecar(Section):
    """The container beside a server."""

    metrics: ContainerResources = sidecar("Exporter of metrics")


class MeteredPod(Pod):
    """Settings of the pods of a server with an exporter."""

    sidecars: ExporterSidecar = sidecars(ExporterSidecar)


class NatsSidecars(ExporterSidecar):
    """The containers beside NATS."""

    logins: ContainerResources = sidecar("What decides about logins; with security.secretStore")


class NatsPod(Pod):
    """Settings of the pods of NATS."""

    sidecars: NatsSidecars = sidecars(NatsSidecars)


class PostgresSidecars(ExporterSidecar):
    """The containers beside PostgreSQL. With rds, there is the pool alone."""

    pool: ContainerResources = sidecar("PgBouncer")
    backups: ContainerResources = sidecar("What takes base backups; with data.objectStore")


class PostgresPod(Pod):
    """Settings of PostgreSQL's pods."""

    sidecars: PostgresSidecars = sidecars(PostgresSidecars)


class KafkaSidecars(Section):
    """The container that runs before a broker."""

    zone: ContainerResources = sidecar("What finds the zone of the pod; with more than one replica")


class KafkaPod(Pod):
    """Settings of brokers' pods."""

    sidecars: KafkaSidecars = sidecars(KafkaSidecars)


class RegistrySidecars(Section):
    """The container beside Apicurio Registry."""

    guard: ContainerResources = sidecar("Envoy, which checks the login of callers")


class RegistryPod(Pod):
    """Settings of the schema registry's pods."""

    sidecars: RegistrySidecars = sidecars(RegistrySidecars)


class GatewaySidecars(Section):
    """Containers besides the gateway's own."""

    controller: ContainerResources = sidecar("With engine kong: its ingress controller, in pods of its own")


class GatewayPod(Pod):
    """Settings of the gateway's pods."""

    sidecars: GatewaySidecars = sidecars(GatewaySidecars)
