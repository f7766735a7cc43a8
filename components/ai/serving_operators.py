"""What serving models on GPUs needs in the cluster: KServe, KEDA, and cert-manager for KServe's webhooks."""

from __future__ import annotations

from collections.abc import Callable, Set

import pulumi

from components.base import PlatformComponent
from components.delivery.chart import Operator, OperatorArgs

Options = Callable[[list[pulumi.Resource]], pulumi.ResourceOptions]


def make(env: str, reused: Set[str], options: Options) -> dict[str, PlatformComponent]:
    """The operators that the cluster does not have yet, by part. `options` takes what one depends on."""
    made: dict[str, PlatformComponent] = {}

    def operator(part: str, args: OperatorArgs, after: list[str]) -> None:
        if args["chart"] not in reused:
            made[part] = Operator("ai", f"{env}-{part}", args, options([made[p] for p in after if p in made]))

    operator(
        "cert-manager",
        {
            "chart": "cert-manager",
            "namespace": "cert-manager",
            "deployment": "cert-manager-webhook",
            "values": {"crds": {"enabled": True}, "replicaCount": 2},
        },
        [],
    )
    operator("keda", {"chart": "keda", "namespace": "keda", "deployment": "keda-operator"}, [])
    if "kserve" in reused:
        return made
    controller = "kserve-controller-manager"
    operator("kserve-crd", {"chart": "kserve-crd", "namespace": "kserve", "deployment": controller}, ["cert-manager"])
    operator(
        "kserve",
        {
            "chart": "kserve",
            "namespace": "kserve",
            "deployment": controller,
            "shared": True,
            "values": {"kserve": {"controller": {"deploymentMode": "Standard"}}},
        },
        ["kserve-crd"],
    )
    return made
