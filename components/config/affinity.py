"""Affinity of pods, by the rules of Kubernetes' own API.

Source of the rules: Kubernetes' API reference, "Affinity" of PodSpec v1, and its validation of pods.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from components.config.base import Change, LabelKey, LabelValue, NamespaceName, Section, setting, several
from components.config.problems import violation


class NodeOperator(StrEnum):
    """How a label of a node is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    """The label is a whole number greater than the value."""
    LESS = "Lt"
    """The label is a whole number less than the value."""


class LabelOperator(StrEnum):
    """How a label of a pod or of a namespace is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


def _values_fit(operator: str, values: tuple[str, ...]) -> None:
    """Raise where an operator does not take these values."""
    if operator in ("In", "NotIn") and not values:
        raise violation(f"operator {operator} needs at least one value", "add values, or use Exists or DoesNotExist")
    if operator in ("Exists", "DoesNotExist") and values:
        raise violation(f"operator {operator} takes no values", "remove values, or use In or NotIn")
    if operator in ("Gt", "Lt"):
        number = values[0].removeprefix("-") if len(values) == 1 else ""
        if not (number.isascii() and number.isdigit()):
            raise violation(f"operator {operator} takes one value, a whole number", 'write values like ["8"]')


Values = Annotated[tuple[LabelValue, ...], Field(max_length=100)]


class NodeRequirement(Section):
    """A condition on a label of a node."""

    key: LabelKey = setting(Change.DISRUPTIVE, "Label of the node")
    operator: NodeOperator = setting(
        Change.DISRUPTIVE, "In, NotIn, Exists, DoesNotExist, Gt or Lt", default=NodeOperator.IN, strict=False
    )
    values: Values = setting(Change.DISRUPTIVE, "What the label is compared with", default=(), strict=False)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _values_fit(self.operator, self.values)
        return self


class NodeTerm(Section):
    """Conditions that must all hold."""

    match_expressions: tuple[NodeRequirement, ...] = setting(
        Change.DISRUPTIVE, "Conditions on labels of the node", min_length=1, max_length=50, strict=False
    )


class NodeTerms(Section):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeTerm, ...] = setting(
        Change.DISRUPTIVE, "Terms of which one must hold", min_length=1, max_length=50, strict=False
    )


Weight = Annotated[int, Field(ge=1, le=100)]


class PreferredNodes(Section):
    """Nodes that are preferred, and how much."""

    weight: Weight = setting(Change.DISRUPTIVE, "How much, 1 to 100")
    preference: NodeTerm = setting(Change.DISRUPTIVE, "Which nodes")


class NodeAffinity(Section):
    """Nodes that a pod must or should run on."""

    required_during_scheduling_ignored_during_execution: NodeTerms | None = setting(
        Change.DISRUPTIVE, "Nodes that it must run on", default=None
    )
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredNodes, ...] = several(
        Change.DISRUPTIVE, "Nodes that it should run on", 50
    )


class LabelRequirement(Section):
    """A condition on a label of a pod or of a namespace."""

    key: LabelKey = setting(Change.DISRUPTIVE, "Label")
    operator: LabelOperator = setting(
        Change.DISRUPTIVE, "In, NotIn, Exists or DoesNotExist", default=LabelOperator.IN, strict=False
    )
    values: Values = setting(Change.DISRUPTIVE, "What the label is compared with", default=(), strict=False)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _values_fit(self.operator, self.values)
        return self


class LabelSelector(Section):
    """Pods or namespaces by their labels; all conditions must hold."""

    match_labels: dict[LabelKey, LabelValue] = setting(
        Change.DISRUPTIVE, "Labels that they have", default_factory=dict[str, str], max_length=50
    )
    match_expressions: tuple[LabelRequirement, ...] = several(Change.DISRUPTIVE, "Conditions on their labels", 50)


class PodTerm(Section):
    """Pods, and the part of the cluster that is shared with them or not."""

    topology_key: LabelKey = setting(Change.DISRUPTIVE, 'Label of nodes, such as "kubernetes.io/hostname"')
    label_selector: LabelSelector | None = setting(Change.DISRUPTIVE, "Which pods", default=None)
    namespaces: tuple[NamespaceName, ...] = several(
        Change.DISRUPTIVE, "Namespaces of these pods; none: the pod's own", 50
    )
    namespace_selector: LabelSelector | None = setting(
        Change.DISRUPTIVE, "Namespaces of these pods by labels", default=None
    )


class PreferredPods(Section):
    """Pods near which, or far from which, a pod should run, and how much."""

    weight: Weight = setting(Change.DISRUPTIVE, "How much, 1 to 100")
    pod_affinity_term: PodTerm = setting(Change.DISRUPTIVE, "Which pods")


class PodAffinity(Section):
    """Pods near which a pod must or should run, or far from which, in an anti-affinity."""

    required_during_scheduling_ignored_during_execution: tuple[PodTerm, ...] = several(
        Change.DISRUPTIVE, "Rules that must hold", 50
    )
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredPods, ...] = several(
        Change.DISRUPTIVE, "Rules that should hold", 50
    )


class Affinity(Section):
    """Where pods run, relative to nodes and to other pods."""

    node_affinity: NodeAffinity | None = setting(Change.DISRUPTIVE, "Relative to nodes", default=None)
    pod_affinity: PodAffinity | None = setting(Change.DISRUPTIVE, "Near these pods", default=None)
    pod_anti_affinity: PodAffinity | None = setting(Change.DISRUPTIVE, "Far from these pods", default=None)
