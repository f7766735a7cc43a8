"""An operator as a Helm release, pinned by the lock file. It is one resource, so previews need no cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components import catalogue
from components.base import PlatformComponent, labels

TIMEOUT_S = 600


class OperatorArgs(TypedDict):
    """Inputs of an operator."""

    chart: str
    """Name of its chart in versions.lock.yaml."""
    namespace: str
    """Namespace that is created for it."""
    values: NotRequired[Mapping[str, Any]]
    """Values of the chart."""
    deployment: str
    """Name of the Deployment or DaemonSet that shows the operator's readiness."""
    kind: NotRequired[str]
    """"Deployment" (default) or "DaemonSet"."""
    privileged: NotRequired[bool]
    """Whether its pods need access to the node, which the namespace then allows. Default false."""
    shared: NotRequired[bool]
    """Whether the namespace exists already. Default false."""


class OperatorResources(NamedTuple):
    """Resources of an operator."""

    release: k8s.helm.v3.Release
    namespace: k8s.core.v1.Namespace | None
    """Where the operator has one of its own."""


class Operator(PlatformComponent):
    """An operator and its CRDs from an upstream chart."""

    release: k8s.helm.v3.Release

    def __init__(self, area: str, name: str, args: OperatorArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(area, name, {"chart": args["chart"]}, opts)
        chart = catalogue.chart(args["chart"])
        depends_on: list[pulumi.Resource] = []
        space = None
        if not args.get("shared") and args["namespace"] != "kube-system":
            level = "privileged" if args.get("privileged") else "baseline"
            space = k8s.core.v1.Namespace(
                name,
                metadata={
                    "name": args["namespace"],
                    "labels": {**labels(args["chart"], area), "pod-security.kubernetes.io/enforce": level},
                },
                opts=self.child(),
            )
            depends_on.append(space)
        oci = chart.repository.startswith("oci://")
        self.release = k8s.helm.v3.Release(
            name,
            name=args["chart"],
            chart=f"{chart.repository}/{chart.name}" if oci else chart.name,
            version=chart.version,
            namespace=args["namespace"],
            repository_opts=None if oci else {"repo": chart.repository},
            values=dict(args.get("values", {})),
            # A failed upgrade is rolled back completely.
            atomic=True,
            cleanup_on_fail=True,
            max_history=5,
            timeout=TIMEOUT_S,
            opts=self.child(depends_on=depends_on),
        )
        self.resources = OperatorResources(self.release, space)
        kind = args.get("kind", "Deployment")
        self.finish(
            {
                "kind": kind,
                "namespace": args["namespace"],
                "name": args["deployment"],
                "probe": f"the {kind} is available",
            },
            version=chart.version,
        )
