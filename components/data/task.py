"""A Job that brings a server's content to what the intents say, or proves that it works; a change runs it again."""

from __future__ import annotations

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
        container: Any = {
            "name": "task",
            "image": inputs.image,
            "args": list(inputs.arguments),
            "env": environment,
            "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}},
            "security_context": restricted(),
            "volume_mounts": [
                {"name": "tmp", "mount_path": "/tmp"},
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
