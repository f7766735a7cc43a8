"""Setup tasks: Jobs that apply the desired content to a server, or check that it works. A change runs them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pulumi
import pulumi_kubernetes as k8s

from components import secret_files
from components.ai import service_identity
from components.ai.service import NOBODY, restricted
from components.base import PlatformComponent, labels
from components.data.document import Document, digest, documents_volume
from components.data.server import task_name
from components.pods import PodArgs, customization

DEADLINE_S = 240
"""Seconds that a task may take, with its retries. A new server may still be electing a leader."""


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
    audiences: tuple[str, ...] = ()
    """Parts to which the task authenticates, with a token of its account for each."""
    versions: tuple[pulumi.Input[str], ...] = ()
    """A value that changes with the mounted passwords. A change runs the task again."""
    customize: PodArgs = field(default_factory=PodArgs)
    """Settings of the part's pods. The task takes those that hold for tasks."""
    name: str = ""
    """Name label and service account of its pods. Default: `<part>-task`."""
    layer: str = "data"
    """Value of the label app.kubernetes.io/component."""
    container: str = "task"
    """Name of the container."""
    memory: tuple[str, str] = ("96Mi", "192Mi")
    """Request and limit, Kubernetes quantities."""

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the Job and of its pods."""
        return labels(self._pods, self.layer)

    @property
    def template(self) -> Any:
        """The pod template."""
        folders = list(self.mounts.items())
        environment: list[Any] = [{"name": key, "value": value} for key, value in sorted(self.environment.items())]
        if self.versions:
            environment.append({"name": "VERSIONS", "value": pulumi.Output.all(*self.versions).apply("-".join)})
        mounts, volumes = documents_volume(self.documents)
        if self.documents:
            environment.append({"name": "DOCUMENTS", "value": digest({d.name: d.text for d in self.documents})})
        if self.audiences:
            mounts = [*mounts, service_identity.mount()]
            volumes = [*volumes, service_identity.volume(self.audiences, answers=False)]
        request, limit = self.memory
        container: Any = {
            "name": self.container,
            "image": self.image,
            "args": list(self.arguments),
            "env": environment,
            "resources": {"requests": {"cpu": "20m", "memory": request}, "limits": {"memory": limit}},
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
            "service_account_name": self._pods,
            "automount_service_account_token": False,
            "enable_service_links": False,
            "containers": [container],
            "volumes": [
                {"name": "tmp", "empty_dir": {"size_limit": "16Mi"}},
                *volumes,
                *(secret_files.whole(f"secret-{n}", secret) for n, (_, secret) in enumerate(folders)),
            ],
            "security_context": {"fs_group": NOBODY},
        }
        found: Any = {"metadata": {"labels": self.labels}, "spec": pod}
        return customization(self.customize).for_tasks.template(found, self.container)

    @property
    def _pods(self) -> str:
        return self.name or task_name(self.part)


class DataTaskResources(NamedTuple):
    """Resources of a task."""

    job: k8s.batch.v1.Job


class DataTask(PlatformComponent):
    """One Job. If it fails, the update fails."""

    def __init__(self, name: str, inputs: TaskInputs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("data", name, {"arguments": list(inputs.arguments)}, opts)
        job = k8s.batch.v1.Job(
            name,
            metadata={"namespace": inputs.namespace, "labels": inputs.labels},
            spec={
                "backoff_limit": 3,
                "active_deadline_seconds": DEADLINE_S,
                "template": inputs.template,
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
