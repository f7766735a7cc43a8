"""Check of network isolation: a pod without rights tries to connect to every port of every part."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pydantic import Field

from components.ai.service import restricted
from components.base import ADMISSION_LABEL, PlatformComponent, labels
from components.config.base import Hostname, ObjectName
from components.inputs import AnyText, Inputs, Port, Text, checked
from components.pods import CustomizeArgs, customization

PART = "isolation"
DEADLINE_S = 180
"""Seconds that the check may take. Some clusters need half a minute to enforce policies for a new pod."""


class ControlArgs(TypedDict):
    """What must be reachable."""

    host: str
    """DNS name."""
    port: int
    """TCP port."""


class IsolationCheckArgs(CustomizeArgs):
    """Inputs of the check."""

    namespace: pulumi.Input[str]
    """Namespace whose ports are checked. The check runs in `<namespace>-isolation`, which it makes."""
    image: pulumi.Input[str]
    """Image of the data tasks, by digest."""
    ports: Mapping[str, Sequence[int]]
    """TCP ports that must be unreachable, by Service in the namespace, or by "service.namespace" for another one."""
    control: ControlArgs
    """What must be reachable, which shows that the pod's network works at all."""
    release: NotRequired[pulumi.Input[str]]
    """A value that changes with the checked resources, so that a change runs the check again. Default: empty."""


class Control(Inputs):
    """What must be reachable."""

    host: Hostname = Field(description="DNS name")
    port: Port = Field(description="TCP port")


class IsolationCheckInputs(Inputs):
    """What `IsolationCheckArgs` may hold."""

    namespace: Text = Field(description="Namespace whose ports are checked")
    image: Text = Field(description="Image of the data tasks, by digest")
    ports: dict[ObjectName, list[Port]] = Field(
        description="TCP ports that must be unreachable, by Service in the namespace, or by service.namespace"
    )
    control: Control = Field(description="What must be reachable")
    release: AnyText = Field(default="", description="A value that changes with the checked resources")
    customize: Any = Field(default=None, description="Settings of the pods")


class IsolationCheckResources(NamedTuple):
    """Resources of the check."""

    namespace: k8s.core.v1.Namespace
    """The check's own."""
    job: k8s.batch.v1.Job


class IsolationCheck(PlatformComponent):
    """A Job in its own namespace. The update fails if the Job reaches a port of the platform."""

    def __init__(self, name: str, args: IsolationCheckArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(IsolationCheckInputs, self, name, args)
        super().__init__("security", name, {"ports": inputs.ports}, opts)
        own = labels(PART, "security")
        platform = pulumi.Output.from_input(inputs.namespace)
        standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        namespace = k8s.core.v1.Namespace(
            name,
            metadata={
                "name": platform.apply(lambda known: f"{known}-{PART}"),
                "labels": {**own, **standard, ADMISSION_LABEL: platform},
            },
            opts=self.child(),
        )
        targets = platform.apply(
            lambda known: json.dumps(
                {
                    f"{service}.svc" if "." in service else f"{service}.{known}.svc": sorted(ports)
                    for service, ports in sorted(inputs.ports.items())
                }
            )
        )
        container: Any = {
            "name": "check",
            "image": inputs.image,
            "args": [PART],
            "env": [
                {"name": "CONTROL", "value": json.dumps([inputs.control.host, inputs.control.port])},
                {"name": "RELEASE", "value": inputs.release},
                {"name": "TARGETS", "value": targets},
            ],
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "security_context": restricted(),
        }
        pod: Any = {
            "restart_policy": "Never",
            "automount_service_account_token": False,
            "enable_service_links": False,
            "containers": [container],
        }
        # No part-of label: a policy that admits all parts must not admit this pod.
        template: Any = {"metadata": {"labels": {"app.kubernetes.io/name": PART}}, "spec": pod}
        job = k8s.batch.v1.Job(
            name,
            metadata={"namespace": namespace.metadata["name"], "labels": own},
            spec={
                "backoff_limit": 0,
                "active_deadline_seconds": DEADLINE_S,
                "template": customization(inputs.customize).for_tasks.template(template, "check"),
            },
            opts=self.child(delete_before_replace=True),
        )
        self.resources = IsolationCheckResources(namespace, job)
        self.finish(
            {
                "kind": "Job",
                "namespace": namespace.metadata["name"],
                "name": job.metadata["name"],
                "probe": "no port of the platform answers a pod without rights",
            }
        )
