"""Setup tasks: Jobs that apply the desired content to a server, or check that it works. A change runs them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pulumi
import pulumi_kubernetes as k8s

from components.ai.service import restricted
from components.base import PlatformComponent, labels
from components.data.server import task_name
from components.pods import PodArgs, customization

DEADLINE_S = 240
"""Seconds that a task may take, with its retries. A new server may still be electing a leader."""
DOCUMENTS = "/etc/documents"
"""Folder with a task's documents, `<name>.json` each."""
_KEY = "document.json"


@dataclass(frozen=True)
class Document:
    """Desired state for a task, as a resource of its own: a ConfigMap."""

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
    """Create a document: resource `name`, which the setup task of `part` reads as `file`.

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


@dataclass(frozen=True)
class TaskInputs:
    """Inputs of a task."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    arguments: tuple[str, ...]
    part: str
    """The part that it belongs to. The name label of its pods is `<part>-task`; the part's NetworkPolicy admits it."""
    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    mounts: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Names of Secrets by folder. Each entry of a Secret becomes a file in the folder."""
    documents: tuple[Document, ...] = ()
    """Desired state. A change of any document runs the task again."""
    versions: tuple[pulumi.Input[str], ...] = ()
    """A value that changes with the mounted passwords. A change runs the task again."""
    customize: PodArgs = field(default_factory=PodArgs)
    """Settings of the part's pods. The task takes those that hold for tasks."""


class DataTaskResources(NamedTuple):
    """Resources of a task."""

    job: k8s.batch.v1.Job


class DataTask(PlatformComponent):
    """One Job. If it fails, the update fails."""

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
                "template": customization(inputs.customize).for_tasks.template(
                    {"metadata": {"labels": own}, "spec": pod}, "task"
                ),
            },
            opts=self.child(delete_before_replace=True),
        )
        self.resources = DataTaskResources(job)
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
    """Hash by which a task verifies that the mounted documents are those that it was created for."""
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()


def _documents(documents: tuple[Document, ...]) -> tuple[list[Any], list[Any]]:
    """One volume with all documents, and its mount."""
    if not documents:
        return [], []
    sources = [
        {"config_map": {"name": d.config_map, "items": [{"key": _KEY, "path": f"{d.name}.json"}]}} for d in documents
    ]
    mount = {"name": "documents", "mount_path": DOCUMENTS, "read_only": True}
    return [mount], [{"name": "documents", "projected": {"sources": sources}}]
