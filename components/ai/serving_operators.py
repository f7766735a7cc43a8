"""Operators for models on GPUs: KServe, KEDA, and cert-manager for KServe's webhooks."""

from __future__ import annotations

from collections.abc import Callable, Set

import pulumi

from components.base import PlatformComponent
from components.delivery.chart import Operator, OperatorArgs

Options = Callable[[list[pulumi.Resource]], pulumi.ResourceOptions]


def make(env: str, reused: Set[str], options: Options) -> dict[str, PlatformComponent]:
    """Install the operators that are not in `reused`. Returns the components by part.

    `options` returns the resource options for given dependencies.
    """
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
