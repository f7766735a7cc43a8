"""Recovery after an interrupted update: finds objects in the cluster that the state lacks, by their label.

The next update adopts the objects that its program still declares. This module removes the others.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli import engine, output
from components.data.holders import held_by
from local import paths
from local.errors import LocalError
from local.providers.kubernetes import objects, ownership
from local.providers.kubernetes.cluster import ApiError, Cluster, Object
from local.providers.server import ProviderError
from local.toolchain import leftovers, shim

_PROVIDER = "pulumi:providers:kubernetes"
_SECRET = "4dabf18193072939515e22adb298388d"
_SETTLED_PACKAGES = ("kubernetes", "random", "tls", "aws", "pulumi")
"""Providers whose stand-ins recognise their own objects, or create nothing outside of the state."""


def _flag(name: str) -> Path:
    return paths.state() / "pulumi" / f"unfinished-{name}"


@contextmanager
def settled(name: str) -> Iterator[None]:
    """Context of an update or destroy. After success, it removes leftovers of an interrupted operation."""
    folder = shim.state_folder()
    interrupted = _flag(name).exists() or bool(folder and leftovers.pending(folder, name))
    before = _providers(_export(name)) if interrupted else {}
    paths.write_private(_flag(name), "")
    yield
    if interrupted:
        _settle(name, before)
    _flag(name).unlink(missing_ok=True)


def _export(name: str) -> dict[str, Any]:
    result = engine.capture("stack", "export", "--stack", name, "--show-secrets")
    if result.returncode != 0:
        raise LocalError(f"the state of {name} cannot be read", reason=result.stderr)
    return json.loads(result.stdout).get("deployment") or {}


def _providers(deployment: dict[str, Any]) -> dict[str, Cluster]:
    """Connections to the clusters of a state's providers, by provider ID."""
    found: dict[str, Cluster] = {}
    for resource in deployment.get("resources") or []:
        if resource["type"] == _PROVIDER:
            inputs = {key: _plain(value) for key, value in (resource.get("inputs") or {}).items()}
            found[resource["id"]] = Cluster(inputs.get("kubeconfig"), inputs.get("context"), inputs.get("namespace"))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and _SECRET in value:
        return json.loads(value["plaintext"])
    return value


def _settle(name: str, before: dict[str, Cluster]) -> None:
    after = _export(name)
    recorded = {(r["urn"], r.get("id")) for r in after.get("resources") or []}
    for state, cluster in {**before, **_providers(after)}.items():
        try:
            for live in cluster.marked(ownership.STATE, state):
                _remove_unrecorded(cluster, live, recorded)
        except (ApiError, ProviderError) as error:
            output.say(f"cannot search for leftovers of an interrupted update: {error}")
            return
    _forget_pending(name)


def _remove_unrecorded(cluster: Cluster, live: Object, recorded: set[tuple[str, str | None]]) -> None:
    owner = ownership.of(live)
    if owner is None or (owner.urn, objects.identifier_of(live)) in recorded:
        return
    token, label = owner.urn.split("::")[2].split("$")[-1], objects.label(live)
    if token.rpartition(":")[2] != live["kind"] or live["metadata"].get("deletionTimestamp"):
        return
    if data := held_by(token):
        output.say(f"an interrupted update left {label}, which may hold {data}; delete it by hand if it is not needed")
        return
    meta = live["metadata"]
    cluster.delete(live["apiVersion"], live["kind"], meta.get("namespace"), meta["name"], "Background")
    output.say(f"removed {label}, a leftover of an interrupted update")


def _forget_pending(name: str) -> None:
    """Remove settled pending operations from the state. Pulumi itself would keep them forever."""
    result = engine.capture("stack", "export", "--stack", name)
    exported = json.loads(result.stdout)
    operations = exported.get("deployment", {}).get("pending_operations") or []
    real = {plugin.removeprefix("pulumi-resource-") for plugin in shim.real_plugins()}
    left = [o for o in operations if not _is_settled(o, real)]
    if len(left) == len(operations):
        return
    exported["deployment"]["pending_operations"] = left
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "state.json")
        paths.write_private(file, json.dumps(exported))
        result = engine.capture("stack", "import", "--stack", name, "--file", str(file))
    if result.returncode != 0:
        raise LocalError(f"the state of {name} could not be repaired", reason=result.stderr)


def _is_settled(operation: dict[str, Any], real: set[str]) -> bool:
    package = operation["resource"]["type"].split(":")[0]
    return operation["type"] == "creating" and package in _SETTLED_PACKAGES and package not in real
