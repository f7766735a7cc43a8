"""Nodes with eight H100 each, cut for two tenants; the nodes exist and carry cogniforge.dev/gpu-pool=shared."""

import pulumi
from cogniforge.cluster.gpu_models import GpuModel
from cogniforge.cluster.gpu_node_pool import GpuNodePool

made = GpuNodePool(
    "shared",
    {
        "name": "shared",
        "gpu": GpuModel.H100_80,
        "gpus_per_node": 8,
        # Four GPUs of seven small slices, four with one half and the rest in smaller ones.
        "mig": ["all-1g.10gb"] * 4 + [{"3g.40gb": 1, "1g.10gb": 4}] * 4,
        "max_nodes": 2,
        "hourly_usd": 40,
        "tenants": [
            {"namespace": pulumi.Config().get("small") or "team-small", "slices": {"1g.10gb": 40}},
            {"namespace": pulumi.Config().get("large") or "team-large", "slices": {"1g.10gb": 40, "3g.40gb": 8}},
        ],
    },
)
pulumi.export("perNode", made.per_node)
pulumi.export("usdAnHour", made.slice_usd)
