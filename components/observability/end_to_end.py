"""End-to-end check: requests a chat completion through the gateway, from inside the cluster."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NotRequired

import pulumi
import pulumi_kubernetes as k8s
from pydantic import Field

from components import secret_files
from components.ai.service import NOBODY, restricted
from components.base import PlatformComponent, labels
from components.config.base import ModelName
from components.inputs import AnyText, Inputs, Text, checked
from components.pods import CustomizeArgs, customization

TIMEOUT_S = 50


class EndToEndCheckArgs(CustomizeArgs):
    """Inputs of the check."""

    namespace: pulumi.Input[str]
    """Namespace of the Job."""
    image: pulumi.Input[str]
    """Image that contains the kit, such as the Router's, by digest."""
    url: pulumi.Input[str]
    """URL of the chat completions of a gateway, with https."""
    model: str
    """Name of the model that the check asks."""
    key_secret: pulumi.Input[str]
    """Secret whose entry "key" holds the API key."""
    certificate_secret: pulumi.Input[str]
    """Secret whose entry "ca.crt" holds the certificate authority of the gateway."""
    release: NotRequired[pulumi.Input[str]]
    """A value that changes with the checked resources, so that a change runs the check again. Default: empty."""


class EndToEndCheckInputs(Inputs):
    """What `EndToEndCheckArgs` may hold."""

    namespace: Text = Field(description="Namespace of the Job")
    image: Text = Field(description="Image that contains the kit, by digest")
    url: Text = Field(description="URL of the chat completions of a gateway")
    model: ModelName = Field(description="Name of the model that the check asks")
    key_secret: Text = Field(description='Secret whose entry "key" holds the API key')
    certificate_secret: Text = Field(description='Secret whose entry "ca.crt" holds the certificate authority')
    release: AnyText = Field(default="", description="A value that changes with the checked resources")
    customize: Any = Field(default=None, description="Settings of the pods")


class EndToEndCheckResources(NamedTuple):
    """Resources of the check."""

    job: k8s.batch.v1.Job


class EndToEndCheck(PlatformComponent):
    """A Job. If it fails, the update fails. A new release replaces it."""

    def __init__(self, name: str, args: EndToEndCheckArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(EndToEndCheckInputs, self, name, args)
        super().__init__("observability", name, args, opts)
        question = {
            "model": inputs.model,
            "messages": [{"role": "user", "content": "Are you there?"}],
            "max_tokens": 8,
        }
        env: Any = [
            {"name": "CHECK_URL", "value": inputs.url},
            {"name": "CHECK_BODY", "value": json.dumps(question)},
            {"name": "CHECK_CA", "value": "/etc/ca/ca.crt"},
            {"name": "CHECK_EXPECT", "value": "choices"},
            {"name": "CHECK_TIMEOUT_SECONDS", "value": str(TIMEOUT_S - 5)},
            {"name": "CHECK_RELEASE", "value": inputs.release},
            {"name": "CHECK_KEY_FILE", "value": secret_files.path("key")},
        ]
        container: Any = {
            "name": "check",
            "image": inputs.image,
            "command": ["python3", "-m", "kit.check"],
            "env": env,
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "security_context": restricted(),
            "volume_mounts": [{"name": "ca", "mount_path": "/etc/ca", "read_only": True}, secret_files.mount()],
        }
        pod: Any = {
            "restart_policy": "Never",
            "automount_service_account_token": False,
            "containers": [container],
            "security_context": {"fs_group": NOBODY},
            "volumes": [
                secret_files.whole("ca", inputs.certificate_secret, "ca.crt"),
                secret_files.volume({"key": (inputs.key_secret, "key")}),
            ],
        }
        template: Any = {"metadata": {"labels": labels("end-to-end", "observability")}, "spec": pod}
        job = k8s.batch.v1.Job(
            name,
            metadata={"namespace": inputs.namespace, "labels": labels("end-to-end", "observability")},
            spec={
                "backoff_limit": 0,
                "active_deadline_seconds": TIMEOUT_S + 10,
                "template": customization(inputs.customize).for_tasks.template(template, "check"),
            },
            opts=self.child(delete_before_replace=True),
        )
        self.resources = EndToEndCheckResources(job)
        self.finish(
            {
                "kind": "Job",
                "namespace": inputs.namespace,
                "name": job.metadata["name"],
                "probe": "a chat completion through the gateway has choices",
            }
        )
