"""Kubernetes objects as the engine sees them: inputs to manifests, live objects to outputs."""

from __future__ import annotations

import copy
from typing import Any

from local.providers import wire
from local.providers.kubernetes import ownership, quantities, readiness, wait_for
from local.providers.kubernetes.cluster import Object
from local.providers.wire import Path, Secret

_HIDDEN = {("v1", "Secret"): ("data", "stringData")}
"""Fields that are secret whatever the program says."""
_SERVER_SIDE = (
    "status",
    "managedFields",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "selfLink",
)
_CRD = "CustomResourceDefinition"


def manifest_of(inputs: dict[str, Any]) -> Object:
    """What is sent to the API server for a resource's inputs."""
    plain = {k: v for k, v in wire.reveal(inputs).items() if v is not None}
    return _renamed(plain, "x_kubernetes_", "_", "-") if plain.get("kind") == _CRD else plain


def _renamed(value: Any, prefix: str, old: str, new: str) -> Any:
    """Pulumi's schema writes x_kubernetes_int_or_string for what Kubernetes calls x-kubernetes-int-or-string."""
    if isinstance(value, dict):
        return {
            (k.replace(old, new) if k.startswith(prefix) else k): _renamed(v, prefix, old, new)
            for k, v in value.items()
        }
    return [_renamed(v, prefix, old, new) for v in value] if isinstance(value, list) else value


def from_server(live: Object) -> Object:
    """The live object as Pulumi's schema names its fields."""
    return _renamed(live, "x-kubernetes-", "-", "_") if live.get("kind") == _CRD else live


def label(manifest: Object) -> str:
    """Kind and name, for messages."""
    return f"{manifest['kind']} {manifest['metadata'].get('name', '')}"


def adopts(manifest: Object) -> bool:
    """An object that exists and is not ours is refused, unless `pulumi.com/patchForce` adopts it."""
    return (manifest["metadata"].get("annotations") or {}).get("pulumi.com/patchForce") == "true"


def annotation_problems(metadata: Any) -> list[tuple[str, str]]:
    """(path, what is wrong) for the annotations that tell the provider how to wait."""
    annotations = wire.reveal(metadata).get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict):
        return []
    found: list[tuple[str, str]] = []
    seconds, rule = annotations.get(readiness.TIMEOUT), annotations.get(wait_for.ANNOTATION)
    if isinstance(seconds, str) and not seconds.isdecimal():
        reason = f"{seconds!r} is no whole number of seconds, such as 600"
        found.append((wire.format_path(("metadata", "annotations", readiness.TIMEOUT)), reason))
    if isinstance(rule, str) and rule:
        try:
            wait_for.parse(rule)
        except wait_for.RuleError as error:
            found.append((wire.format_path(("metadata", "annotations", wait_for.ANNOTATION)), str(error)))
    return found


def identifier_of(live: Object) -> str:
    """The resource\'s id: namespace/name, or the name of what has no namespace."""
    meta = live["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]


def kind_of(urn: str, known: Object) -> tuple[str, str]:
    """apiVersion and kind, from the object or from its type token."""
    if known.get("apiVersion") and known.get("kind"):
        return known["apiVersion"], known["kind"]
    _, group_version, kind = urn.split("::")[2].split("$")[-1].split(":")
    return group_version.removeprefix("core/"), kind


def conceal(outputs: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """Hide what the program marked as secret, and what is secret by its kind."""
    paths = set(wire.secret_paths(inputs))
    for key in _HIDDEN.get((str(outputs.get("apiVersion")), str(outputs.get("kind"))), ()):
        if outputs.get(key) is not None:
            paths = {p for p in paths if p[0] != key} | {(key,)}
    return wire.conceal(wire.reveal(outputs), paths)


def outputs_of(live: Object, inputs: dict[str, Any]) -> dict[str, Any]:
    """The live object without the bookkeeping that changes all the time."""
    trimmed = copy.deepcopy(from_server(ownership.unmarked(live)))
    trimmed.get("metadata", {}).pop("managedFields", None)
    return conceal(trimmed, inputs)


def live_inputs(live: Object, inputs: dict[str, Any]) -> dict[str, Any]:
    """The program's fields with their live values, so that a refresh shows drift in them and nothing else."""

    api_version = str(live.get("apiVersion", ""))

    def follow(wanted: Any, actual: Any, path: Path) -> Any:
        wanted = wanted.value if isinstance(wanted, Secret) else wanted
        if isinstance(wanted, dict) and isinstance(actual, dict):
            return {
                k: follow(v, actual.get(k, _unsaid(v)), (*path, k))
                for k, v in wanted.items()
                if k in actual or not _said(v)
            }
        if isinstance(wanted, list) and isinstance(actual, list) and len(wanted) == len(actual):
            return [follow(w, a, (*path, i)) for i, (w, a) in enumerate(zip(wanted, actual, strict=True))]
        if wanted != actual and quantities.is_quantity(api_version, path) and quantities.same(wanted, actual):
            return wanted  # the program's spelling
        return actual

    result = follow(inputs, live, ())
    if "stringData" in inputs:  # write-only: the server keeps it as data
        result["stringData"] = wire.reveal(inputs["stringData"])
    return result


def _said(value: Any) -> bool:
    """Whether the server would write a field with this value: it leaves out what is zero or empty."""
    return bool(value.value if isinstance(value, Secret) else value)


def _unsaid(value: Any) -> Any:
    """What stands for a field that the server left out."""
    return value.value if isinstance(value, Secret) else value


def importable(live: Object) -> dict[str, Any]:
    """The inputs of an object that was not made by this program."""
    result = {k: v for k, v in copy.deepcopy(ownership.unmarked(live)).items() if k not in _SERVER_SIDE}
    result["metadata"] = {k: v for k, v in result["metadata"].items() if k not in _SERVER_SIDE}
    return result
