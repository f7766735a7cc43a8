"""Shows what `destroy` and `reset` would delete."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from rich.markup import escape

from cli import engine, output
from components.data.holders import held_by
from local import paths
from local.toolchain import shim


def parts(resources: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """(part, number of resources, data that would be lost) of each part."""
    counts: Counter[str] = Counter()
    data: dict[str, set[str]] = {}
    for resource in resources:
        part, token = engine.part_of(resource["urn"], resource.get("parent", "")), engine.type_of(resource["urn"])
        if token.startswith(("cogniforge:", "pulumi:")):
            continue
        counts[part] += 1
        if held := held_by(token):
            data.setdefault(part, set()).add(held)
    return [(part, count, ", ".join(sorted(data.get(part, ())))) for part, count in sorted(counts.items())]


def show(stack: str, resources: list[dict[str, Any]]) -> None:
    """Print what `destroy` deletes, by part."""
    found = parts(resources)
    output.line(f"This deletes {sum(count for _, count, _ in found)} resources of {stack}:")
    view = output.table("part", "resources", "data that is lost", right=frozenset({"resources"}))
    for part, count, data in found:
        view.add_row(part, str(count), data)
    output.console.print(view)


def show_reset() -> bool:
    """Print what `reset` deletes: stacks, data and keys. Returns False if there is nothing to delete."""
    kept = _kept()
    if kept:
        output.line(f"This stops the local node and deletes {paths.state()}:")
    for what, found in kept:
        output.line(f"  {what}: {escape(found)}", indent=4)
    return bool(kept)


def _kept() -> list[tuple[str, str]]:
    folder = paths.state()
    stacks = sorted(file.stem for file in shim.backend_folder().glob(".pulumi/stacks/*/*.json"))
    found: list[tuple[str, str]] = []
    if (folder / "node").exists():
        found.append(("the node", "the cluster and the data of all volumes"))
    if (folder / "images").exists():
        found.append(("images", "all built images and the record of them"))
    if stacks:
        found.append(("Pulumi's state", f"stacks {', '.join(stacks)}, and the passphrase for their secrets"))
    for key in sorted((folder / "keys").glob("*.pub")):
        digest = hashlib.sha256(key.read_bytes()).hexdigest()[:16]
        text = f"{key.with_suffix('.key')} (public key sha256:{digest}); new signatures with this key become impossible"
        found.append(("signing key", text))
    return found
