"""Desired state for a task or a server: a ConfigMap, as a resource of its own that a preview shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.base import labels

DOCUMENTS = "/etc/documents"
"""Folder with a pod's documents, `<name>.json` each."""
_KEY = "document.json"


@dataclass(frozen=True)
class Document:
    """Desired state for a task or a server, as a resource of its own: a ConfigMap."""

    name: str
    config_map: pulumi.Output[str]
    text: str
    resource: k8s.core.v1.ConfigMap


def document(
    name: str,
    file: str,
    config_map: tuple[pulumi.Input[str], str],
    part: str,
    content: Mapping[str, Any],
    opts: pulumi.ResourceOptions,
) -> Document:
    """Create a document: resource `name`, which a task or server of `part` reads as `file`.

    `config_map` is the namespace and the name of its ConfigMap.
    """
    text = json.dumps(content, indent=2, sort_keys=True)
    written = k8s.core.v1.ConfigMap(
        name,
        metadata={"name": config_map[1], "namespace": config_map[0], "labels": labels(part, "data")},
        data={_KEY: text},
        opts=opts,
    )
    return Document(file, written.metadata["name"], text, written)


def digest(texts: Mapping[str, str]) -> str:
    """Hash by which a task verifies that the mounted documents are those that it was created for."""
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()


def documents_volume(documents: Sequence[Document]) -> tuple[list[Any], list[Any]]:
    """One volume with all documents, and its mount."""
    if not documents:
        return [], []
    sources = [
        {"config_map": {"name": d.config_map, "items": [{"key": _KEY, "path": f"{d.name}.json"}]}} for d in documents
    ]
    mount = {"name": "documents", "mount_path": DOCUMENTS, "read_only": True}
    return [mount], [{"name": "documents", "projected": {"sources": sources}}]
