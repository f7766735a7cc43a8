"""Applies settings of pods (`components/config/pod.py`) to what a component makes.

A component takes the settings as its input `customize`. The platform passes those of the stack file by the same input.
The settings add to a pod; what the platform sets itself stays, and an attempt to replace it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict, cast

import pulumi
import pulumi_kubernetes as k8s
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from components.config.base import Change, NamespaceName, setting
from components.config.pod import ContainerResources, Placement, Pod
from components.config.problems import ConfigError, Location, Problem, describe, format_location

_INPUT = "customize"
_KNOWN_LATER = "known-later"
"""Stands for a value that is known only when other resources are made. The API server checks the value."""


class ContainerResourcesArgs(TypedDict):
    """Resources of one container; a field that is left out stays as it is."""

    cpu: NotRequired[str]
    """CPU request, "10m" to "64"."""
    memory: NotRequired[str]
    """Memory request and limit, "16Mi" to "1Ti"."""


class PlacementArgs(TypedDict):
    """Where pods run, their priority, and their labels and annotations."""

    node_selector: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Labels that a node must have."""
    tolerations: NotRequired[Sequence[k8s.core.v1.TolerationArgsDict]]
    """Taints of nodes that do not keep the pods away."""
    affinity: NotRequired[k8s.core.v1.AffinityArgsDict]
    """Where pods run, relative to nodes and to other pods."""
    priority_class_name: NotRequired[pulumi.Input[str]]
    """A PriorityClass of the cluster."""
    labels: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Labels of the pods besides the component's own."""
    annotations: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Annotations of the pods besides the component's own."""


class PodArgs(PlacementArgs):
    """Settings of the pods of a workload."""

    environment: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Variables of the main container besides the component's own."""
    sidecars: NotRequired[Mapping[str, ContainerResourcesArgs]]
    """Resources of the other containers of the pod, by name."""


class CustomizeArgs(TypedDict):
    """What every component with pods takes."""

    customize: NotRequired[PodArgs]
    """Settings of its pods."""


class _Customize(Pod):
    """The input as it is checked."""

    sidecars: dict[NamespaceName, ContainerResources] = setting(
        Change.DISRUPTIVE, "Resources of other containers, by name", default_factory=dict[str, ContainerResources]
    )


def _filled(settings: Placement, *, camel: bool = False) -> dict[str, Any]:
    """The settings that are not empty. Below the first level, an empty object has a meaning and stays."""
    found = settings.model_dump(mode="json", exclude_none=True, by_alias=camel)
    if "sidecars" in found:
        found["sidecars"] = {name: resources for name, resources in found["sidecars"].items() if resources}
    return {name: value for name, value in found.items() if value}


class _FromStackFile(dict[str, Any]):
    """Settings that are checked already, with their place in the stack file for errors that only a pod shows."""

    def __init__(self, settings: Placement, path: str) -> None:
        super().__init__(_filled(settings))
        self.settings, self.path = settings, path


def customized(settings: Placement, path: str) -> CustomizeArgs:
    """The input `customize` from a section of the stack file, which is at `path`; none where the section is empty."""
    given = _FromStackFile(settings, path)
    return {"customize": cast("PodArgs", given)} if given else {}


@dataclass(frozen=True)
class Customization:
    """Settings of pods that have been checked, as a component applies them."""

    settings: Placement = field(default_factory=Placement)
    path: str = _INPUT
    later: tuple[tuple[Location, pulumi.Output[Any]], ...] = ()
    """Values that are known later, by their place in the settings."""

    @property
    def for_tasks(self) -> Customization:
        """What holds for a Job that belongs to a workload, too.

        Environment and sidecars are the workload's alone. So is affinity to pods: a Job that has to keep away from
        the pods that it looks at would never run in a small cluster.
        """
        affinity = self.settings.affinity
        near = affinity.model_copy(update={"pod_affinity": None, "pod_anti_affinity": None}) if affinity else None
        kept: dict[str, Any] = {name: getattr(self.settings, name) for name in Placement.model_fields}
        settings = Placement().model_copy(update={**kept, "affinity": near if near and near.node_affinity else None})
        later = tuple((place, value) for place, value in self.later if place[0] in Placement.model_fields)
        return Customization(settings, self.path, later)

    def values(self, *, camel: bool = False) -> dict[str, Any]:
        """The settings that are not empty, named as in Python or, with `camel`, as in Kubernetes."""
        found = _filled(self.settings, camel=camel)
        for place, value in self.later:
            at: Any = found
            *above, last = (to_camel(str(part)) if camel and n == 0 else part for n, part in enumerate(place))
            for part in above:
                at = at[part]
            at[last] = value
        return found

    def template(self, template: Mapping[str, Any], workload: str) -> Any:
        """A pod template with the settings applied. Raises ConfigError with everything that does not fit.

        `workload` is the name of the main container; without one of that name, the first is the main one.
        """
        values = self.values()
        if not values:
            return dict(template)
        metadata, pod = dict(template["metadata"]), dict(template["spec"])
        containers: list[dict[str, Any]] = [dict(one) for one in pod["containers"]]
        before: list[dict[str, Any]] = [dict(one) for one in pod.get("init_containers", [])]
        main = next((one for one in containers if one["name"] == workload), containers[0])
        taken = _Taken(self.path)
        for kind in ("labels", "annotations"):
            if added := values.get(kind):
                metadata[kind] = taken.joined(kind, metadata.get(kind, {}), added)
        if added := values.get("environment"):
            own: list[Any] = main.get("env", [])
            taken.check("environment", [variable["name"] for variable in own], added)
            main["env"] = [*own, *variables(added)]
        others = [one for one in (*containers, *before) if one is not main]
        taken.resources(values.get("sidecars", {}), others)
        if selected := values.get("node_selector"):
            pod["node_selector"] = taken.joined("node_selector", pod.get("node_selector", {}), selected)
        if tolerated := values.get("tolerations"):
            pod["tolerations"] = [*pod.get("tolerations", []), *tolerated]
        for name in ("affinity", "priority_class_name"):
            if name in values:
                pod[name] = values[name]
        taken.refuse()
        return {**template, "metadata": metadata, "spec": {**pod, "containers": containers} | _first(before)}

    def taken(self) -> _Taken:
        """Collects what does not fit; for workloads that are not made from a pod template."""
        return _Taken(self.path)


def _first(containers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"init_containers": containers} if containers else {}


def variables(environment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Environment variables as a container lists them."""
    return [{"name": name, "value": value} for name, value in sorted(environment.items())]


class _Taken:
    """What settings name although it is the component's own, or is not there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems: list[Problem] = []

    def _at(self, kind: str, name: str) -> str:
        # A program names its inputs as Python does.
        kind = kind if self._path == _INPUT else to_camel(kind)
        shown = format_location((name,))
        return f"{self._path}.{kind}{'' if shown.startswith('[') else '.'}{shown}"

    def check(self, kind: str, own: Iterable[str], added: Mapping[str, Any]) -> None:
        """Note what is among a component's own names of a kind."""
        what = {"environment": "variable", "labels": "label", "annotations": "annotation"}.get(kind, "key")
        for name in sorted({*own} & {*added}):
            limit = f"the platform sets the {what} {name} itself"
            self._problems.append(Problem(self._at(kind, name), _shown(added[name]), limit, "remove it"))

    def joined(self, kind: str, own: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
        """A component's own entries and those that are added."""
        self.check(kind, own, added)
        return {**own, **added}

    def resources(self, wanted: Mapping[str, Mapping[str, str]], containers: Sequence[dict[str, Any]]) -> None:
        """Give containers their resources. A container that is not there is noted."""
        there = {one["name"]: one for one in containers}
        for name, resources in wanted.items():
            if name not in there:
                self.missing(name, list(there))
                continue
            there[name]["resources"] = resized(there[name]["resources"], resources)

    def missing(self, name: str, there: Sequence[str]) -> None:
        """Note a container that is not there."""
        limit = f"one of {', '.join(sorted(there))}" if there else "none: the pod has one container"
        fix = "remove it; the container depends on other settings of the part" if there else "remove it"
        self._problems.append(Problem(self._at("sidecars", name), "(an object)", limit, fix))

    def note(self, kind: str, name: str, value: object, limit: str, fix: str) -> None:
        """Note another mistake."""
        self._problems.append(Problem(self._at(kind, name), _shown(value), limit, fix))

    def refuse(self) -> None:
        """Raise ConfigError if there is a problem."""
        if self._problems:
            raise ConfigError(self._problems)


def _shown(value: object) -> str:
    return "(known later)" if isinstance(value, pulumi.Output) else f'"{value}"'


def resized(own: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    """A container's resources with other CPU or memory. Memory is both request and limit."""
    requests, limits = {**own.get("requests", {}), **wanted}, dict(own.get("limits", {}))
    return {
        **own,
        "requests": requests,
        "limits": {**limits, **({"memory": wanted["memory"]} if "memory" in wanted else {})},
    }


def customization(given: PodArgs | None) -> Customization:
    """The input `customize` of a component, checked. Raises ConfigError with all mistakes."""
    if isinstance(given, _FromStackFile):
        return Customization(given.settings, given.path)
    later: list[tuple[Location, pulumi.Output[Any]]] = []
    known = _known(given or {}, (), later)
    try:
        settings = _Customize.model_validate(known)
    except ValidationError as error:
        raise ConfigError([describe(one, _Customize, known, _INPUT) for one in error.errors()]) from None
    return Customization(settings, _INPUT, tuple(later))


def _known(value: Any, place: Location, later: list[tuple[Location, pulumi.Output[Any]]]) -> Any:
    """The value with stand-ins for what is known later."""
    if isinstance(value, pulumi.Output):
        later.append((place, cast("pulumi.Output[Any]", value)))
        return _KNOWN_LATER
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        names = {key: key if place else _field(key) for key in entries}
        return {key: _known(entry, (*place, names[key]), later) for key, entry in entries.items()}
    if isinstance(value, list | tuple):
        return [_known(entry, (*place, n), later) for n, entry in enumerate(cast("Sequence[Any]", value))]
    return value


def _field(key: str) -> str:
    """The name in Python of a field that is named in either way."""
    return next((name for name in _Customize.model_fields if key in (name, to_camel(name))), key)
