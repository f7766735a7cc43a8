"""Rules for GPUs: allowed types, MIG layouts, cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import yaml

from components.cluster.gpu_models import GPUS, INSTANCES
from components.cluster.mig import GPU_RESOURCE, place, resource_name
from policies.crossguard.kubernetes_rules import WORKLOADS, containers
from policies.crossguard.rule import Area, Resource, Rule, StackRule

ALLOWED_GPUS = {
    "local": (),
    "dev": ("t4", "a10g", "l4", "a100-40"),
    "staging": ("t4", "a10g", "l4", "l40s", "a100-40", "a100-80", "h100-80"),
    "prod": tuple(str(model) for model in GPUS),
}
"""Allowed GPU models by stage. Development does not need the newest ones."""
COST_CEILING_USD = {"local": Decimal(0), "dev": Decimal(50), "staging": Decimal(100), "prod": Decimal(400)}
"""Highest price of all GPU nodes in USD per hour, with maxNodes, by stage."""
_NODE_POOLS = ("aws:eks/nodeGroup:NodeGroup", "kubernetes:karpenter.sh/v1:NodePool")
_MIG_RESOURCES = {resource_name(p.name) for gpu in GPUS.values() for p in gpu.profiles}


def _instances(resource: Resource) -> tuple[list[str], int]:
    """(instance types, maximum number of nodes) of a pool."""
    if resource.type.startswith("aws:"):
        size = int((resource.properties.get("scalingConfig") or {}).get("maxSize") or 0)
        return list(resource.properties.get("instanceTypes") or []), size
    spec = resource.properties.get("spec") or {}
    requirements = ((spec.get("template") or {}).get("spec") or {}).get("requirements") or []
    types = [
        v for r in requirements if r.get("key") == "node.kubernetes.io/instance-type" for v in r.get("values") or []
    ]
    return types, int((spec.get("limits") or {}).get("nodes") or 0)


def _allowed(resource: Resource) -> Iterator[str]:
    allowed = ALLOWED_GPUS.get(resource.environment, ())
    for name in _instances(resource)[0]:
        instance = INSTANCES.get(name)
        if instance and instance.gpu not in allowed:
            yield f"{name} has {instance.gpu}; {resource.environment} may use {', '.join(allowed) or 'none'}"


def _tainted(resource: Resource) -> Iterator[str]:
    if not any(name in INSTANCES for name in _instances(resource)[0]):
        return
    spec = ((resource.properties.get("spec") or {}).get("template") or {}).get("spec") or {}
    taints = resource.properties.get("taints") or spec.get("taints") or []
    if not any(t.get("key") == GPU_RESOURCE for t in taints):
        yield "pods without a GPU can be scheduled on it"


def _layouts_fit(resource: Resource) -> Iterator[str]:
    text = (resource.properties.get("data") or {}).get("config.yaml")
    if not text or "mig-configs" not in text:
        return
    for name, entries in (yaml.safe_load(text).get("mig-configs") or {}).items():
        for entry in entries:
            layout = tuple(sorted((entry.get("mig-devices") or {}).items()))
            if layout and not any(_fits(model, layout) for model in GPUS):
                yield f"the layout {name} fits on no GPU: {dict(layout)}"


def _fits(model: Any, layout: tuple[tuple[str, int], ...]) -> bool:
    gpu = GPUS[model]
    return all(gpu.profile(name) for name, _ in layout) and place(model, layout) is not None


def _known_slices(resource: Resource) -> Iterator[str]:
    for container in containers(resource):
        limits: Mapping[str, Any] = (container.get("resources") or {}).get("limits") or {}
        for name in limits:
            if name.startswith("nvidia.com/mig-") and name not in _MIG_RESOURCES:
                yield f"{container.get('name')}: {name} is not a MIG profile of any GPU"


def _limits_equal(resource: Resource) -> Iterator[str]:
    for container in containers(resource):
        wanted = container.get("resources") or {}
        requests, limits = wanted.get("requests") or {}, wanted.get("limits") or {}
        for name in {n for n in (*requests, *limits) if n.startswith("nvidia.com/")}:
            if name in requests and requests.get(name) != limits.get(name):
                yield f"{container.get('name')}: the limit of {name} differs from its request"


def _operator_layouts(resource: Resource) -> Iterator[str]:
    if resource.properties.get("chart") != "gpu-operator":
        return
    values = resource.properties.get("values") or {}
    strategy = (values.get("mig") or {}).get("strategy")
    if strategy not in ("single", "mixed"):
        yield f"mig.strategy is {strategy}"
    manager = values.get("migManager") or {}
    if manager.get("enabled") and not (manager.get("config") or {}).get("name"):
        yield "the MIG manager has no layouts"


def _cost(resources: Sequence[Resource]) -> Iterator[tuple[str, str]]:
    total, pools = Decimal(0), list[Resource]()
    for resource in resources:
        if resource.type in _NODE_POOLS:
            types, nodes = _instances(resource)
            prices = [i.hourly_usd for t in types if (i := INSTANCES.get(t)) and i.hourly_usd is not None]
            if prices:
                total += max(prices) * nodes
                pools.append(resource)
    if pools and total > COST_CEILING_USD.get(pools[0].environment, Decimal(0)):
        ceiling = COST_CEILING_USD[pools[0].environment]
        yield pools[0].urn, f"GPU nodes may cost {total:.2f} USD per hour; the ceiling is {ceiling}"


RULES = (
    Rule(
        "gpu-type-allowed", Area.GPU, "GPU types are allowed in this stage.", "use a smaller GPU, or change the rule",
        _NODE_POOLS, _allowed,
    ),
    Rule(
        "gpu-nodes-tainted", Area.GPU, "GPU nodes are for pods that need GPUs.", f"taint them with {GPU_RESOURCE}",
        _NODE_POOLS, _tainted,
    ),
    Rule(
        "mig-layouts-fit", Area.GPU, "MIG layouts fit on a GPU.", "use fewer or smaller slices",
        ("kubernetes:core/v1:ConfigMap",), _layouts_fit,
    ),
    Rule(
        "mig-slices-known", Area.GPU, "Pods request MIG profiles that exist.", "correct the profile's name", WORKLOADS,
        _known_slices,
    ),
    Rule(
        "gpu-limits-equal-requests", Area.GPU, "GPUs are not overcommitted.", "set limits equal to requests", WORKLOADS,
        _limits_equal,
    ),
    Rule(
        "mig-operator-configured", Area.GPU, "The GPU operator has the MIG layouts.",
        "set mig.strategy and migManager.config.name", ("kubernetes:helm.sh/v3:Release",), _operator_layouts,
    ),
)  # fmt: skip
STACK_RULES = (
    StackRule(
        "gpu-cost-ceiling", Area.COST, "GPU nodes cost less than the stage's ceiling.",
        "lower maxNodes, or raise COST_CEILING_USD in a reviewed change", _cost,
    ),
)  # fmt: skip
