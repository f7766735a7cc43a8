"""Converts Kubernetes objects for the engine: inputs to manifests, and live objects to outputs."""

from __future__ import annotations

import copy
from typing import Any

from local.providers import wire
from local.providers.kubernetes import ownership, quantities, readiness, wait_for
from local.providers.kubernetes.cluster import Object
from local.providers.wire import Path, Secret

_HIDDEN = {("v1", "Secret"): ("data", "stringData")}
"""Fields that are always secret."""
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
    """Manifest for the API server from a resource's inputs."""
    plain = {k: v for k, v in wire.reveal(inputs).items() if v is not None}
    return _renamed(plain, "x_kubernetes_", "_", "-") if plain.get("kind") == _CRD else plain


def _renamed(value: Any, prefix: str, old: str, new: str) -> Any:
    """Rename keys such as x-kubernetes-int-or-string, which is x_kubernetes_int_or_string in Pulumi's schema."""
    if isinstance(value, dict):
        return {
            (k.replace(old, new) if k.startswith(prefix) else k): _renamed(v, prefix, old, new)
            for k, v in value.items()
        }
    return [_renamed(v, prefix, old, new) for v in value] if isinstance(value, list) else value


def from_server(live: Object) -> Object:
    """A live object with the field names of Pulumi's schema."""
    return _renamed(live, "x-kubernetes-", "-", "_") if live.get("kind") == _CRD else live


def label(manifest: Object) -> str:
    """Kind and name, for messages."""
    return f"{manifest['kind']} {manifest['metadata'].get('name', '')}"


def adopts(manifest: Object) -> bool:
    """Whether the annotation `pulumi.com/patchForce` allows adoption of an existing object."""
    return (manifest["metadata"].get("annotations") or {}).get("pulumi.com/patchForce") == "true"


def annotation_problems(metadata: Any) -> list[tuple[str, str]]:
    """(path, problem) of annotations that control how the provider waits."""
    annotations = wire.reveal(metadata).get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict):
        return []
    found: list[tuple[str, str]] = []
    seconds, rule = annotations.get(readiness.TIMEOUT), annotations.get(wait_for.ANNOTATION)
    if isinstance(seconds, str) and not seconds.isdecimal():
        reason = f"{seconds!r} is not a whole number of seconds, such as 600"
        found.append((wire.format_path(("metadata", "annotations", readiness.TIMEOUT)), reason))
    if isinstance(rule, str) and rule:
        try:
            wait_for.parse(rule)
        except wait_for.RuleError as error:
            found.append((wire.format_path(("metadata", "annotations", wait_for.ANNOTATION)), str(error)))
    return found


def identifier_of(live: Object) -> str:
    """ID of the resource: namespace/name, or the name of a cluster-wide object."""
    meta = live["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]


def kind_of(urn: str, known: Object) -> tuple[str, str]:
    """(apiVersion, kind) from the object or from its type token."""
    if known.get("apiVersion") and known.get("kind"):
        return known["apiVersion"], known["kind"]
    _, group_version, kind = urn.split("::")[2].split("$")[-1].split(":")
    return group_version.removeprefix("core/"), kind


def conceal(outputs: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """Mark outputs as secret that the program marked, or that are always secret."""
    paths = set(wire.secret_paths(inputs))
    for key in _HIDDEN.get((str(outputs.get("apiVersion")), str(outputs.get("kind"))), ()):
        if outputs.get(key) is not None:
            paths = {p for p in paths if p[0] != key} | {(key,)}
    return wire.conceal(wire.reveal(outputs), paths)


def outputs_of(live: Object, inputs: dict[str, Any]) -> dict[str, Any]:
    """The live object without metadata that changes frequently."""
    trimmed = copy.deepcopy(from_server(ownership.unmarked(live)))
    trimmed.get("metadata", {}).pop("managedFields", None)
    return conceal(trimmed, inputs)


def live_inputs(live: Object, inputs: dict[str, Any]) -> dict[str, Any]:
    """Live values of the fields that the program sets, so that a refresh shows drift of these fields only."""

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
            return wanted  # the notation of the program
        return actual

    result = follow(inputs, live, ())
    if "stringData" in inputs:  # write-only: the API server stores it in data
        result["stringData"] = wire.reveal(inputs["stringData"])
    return result


def _said(value: Any) -> bool:
    """Whether the API server would return a field with this value. It leaves out zero and empty values."""
    return bool(value.value if isinstance(value, Secret) else value)


def _unsaid(value: Any) -> Any:
    """The empty value that corresponds to a field that the API server left out."""
    return value.value if isinstance(value, Secret) else value


def importable(live: Object) -> dict[str, Any]:
    """Inputs for the import of an object that this program did not create."""
    result = {k: v for k, v in copy.deepcopy(ownership.unmarked(live)).items() if k not in _SERVER_SIDE}
    result["metadata"] = {k: v for k, v in result["metadata"].items() if k not in _SERVER_SIDE}
    return result
