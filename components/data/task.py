"""A Job that brings a server's content to what the intents say, or proves that it works; a change runs it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.ai.service import restricted
from components.base import PlatformComponent, labels
from components.data.server import task_name

DEADLINE_S = 240
"""How long a task may take, with its tries; a server that has just started may still be electing a leader."""
DOCUMENTS = "/etc/documents"
"""Where a task finds its documents, `<name>.json` each."""
_KEY = "document.json"


@dataclass(frozen=True)
class Document:
    """Something that a task is to bring about, which is a resource of its own: a ConfigMap that says what."""

    name: str
    config_map: pulumi.Output[str]
    text: str


def document(
    name: str,
    config_map: str,
    part: str,
    namespace: pulumi.Input[str],
    content: Mapping[str, Any],
    opts: pulumi.ResourceOptions,
) -> Document:
    """Write it down as a resource `name` whose ConfigMap is `config_map`; `part` is whose it is."""
    text = json.dumps(content, indent=2, sort_keys=True)
    written = k8s.core.v1.ConfigMap(
        name,
        metadata={"name": config_map, "namespace": namespace, "labels": labels(part, "data")},
        data={_KEY: text},
        opts=opts,
    )
    return Document(config_map, written.metadata["name"], text)


@dataclass(frozen=True)
class TaskInputs:
    """What a task is given."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    arguments: tuple[str, ...]
    part: str
    """The part that it belongs to: its pods carry `<part>-task` as their name, which the part's policy lets in."""
    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    mounts: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Secrets, by the folder where all their keys are files."""
    documents: tuple[Document, ...] = ()
    """What it is to bring about; a change of any runs it again."""
    versions: tuple[pulumi.Input[str], ...] = ()
    """Changes with the passwords that are mounted, and so runs it again."""


class DataTask(PlatformComponent):
    """One Job; the update fails where it fails."""

    def __init__(self, name: str, inputs: TaskInputs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("data", name, {"arguments": list(inputs.arguments)}, opts)
        folders = list(inputs.mounts.items())
        environment: list[Any] = [{"name": key, "value": value} for key, value in sorted(inputs.environment.items())]
        if inputs.versions:
            environment.append({"name": "VERSIONS", "value": pulumi.Output.all(*inputs.versions).apply("-".join)})
        mounts, volumes = _documents(inputs.documents)
        if inputs.documents:
            environment.append({"name": "DOCUMENTS", "value": digest({d.name: d.text for d in inputs.documents})})
        container: Any = {
            "name": "task",
            "image": inputs.image,
            "args": list(inputs.arguments),
            "env": environment,
            "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}},
            "security_context": restricted(),
            "volume_mounts": [
                {"name": "tmp", "mount_path": "/tmp"},
                *mounts,
                *(
                    {"name": f"secret-{n}", "mount_path": folder, "read_only": True}
                    for n, (folder, _) in enumerate(folders)
                ),
            ],
        }
        pod: Any = {
            "restart_policy": "Never",
            "service_account_name": task_name(inputs.part),
            "automount_service_account_token": False,
            "enable_service_links": False,
            "containers": [container],
            "volumes": [
                {"name": "tmp", "empty_dir": {"size_limit": "16Mi"}},
                *volumes,
                *({"name": f"secret-{n}", "secret": {"secret_name": s}} for n, (_, s) in enumerate(folders)),
            ],
        }
        own = labels(task_name(inputs.part), "data")
        job = k8s.batch.v1.Job(
            name,
            metadata={"namespace": inputs.namespace, "labels": own},
            spec={
                "backoff_limit": 3,
                "active_deadline_seconds": DEADLINE_S,
                "template": {"metadata": {"labels": own}, "spec": pod},
            },
            opts=self.child(delete_before_replace=True),
        )
        self.done = job.metadata["name"]
        self.finish(
            {
                "kind": "Job",
                "namespace": inputs.namespace,
                "name": self.done,
                "probe": f"{' '.join(inputs.arguments)} ends with success",
            }
        )


def digest(texts: Mapping[str, str]) -> str:
    """By which a task knows that the documents it finds are those that it was made for."""
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()


def _documents(documents: tuple[Document, ...]) -> tuple[list[Any], list[Any]]:
    """One mount of all, and its volume."""
    if not documents:
        return [], []
    sources = [
        {"config_map": {"name": d.config_map, "items": [{"key": _KEY, "path": f"{d.name}.json"}]}} for d in documents
    ]
    mount = {"name": "documents", "mount_path": DOCUMENTS, "read_only": True}
    return [mount], [{"name": "documents", "projected": {"sources": sources}}]
