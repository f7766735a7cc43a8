"""Nodes with eight H100 each, cut for two tenants; the nodes exist and carry cogniforge.dev/gpu-pool=shared."""

import pulumi
from cogniforge.cluster.gpu_node_pool import GpuNodePool
from cogniforge.config.gpu import GpuPool

pool = GpuPool.model_validate(
    {
        "name": "shared",
        "gpu": "h100-80",
        "gpusPerNode": 8,
        # Four GPUs of seven small slices, four with one half and the rest in smaller ones.
        "mig": ["all-1g.10gb"] * 4 + [{"3g.40gb": 1, "1g.10gb": 4}] * 4,
        "maxNodes": 2,
        "hourlyUsd": 40,
        "tenants": [
            {"namespace": pulumi.Config().get("small") or "team-small", "slices": {"1g.10gb": 40}},
            {"namespace": pulumi.Config().get("large") or "team-large", "slices": {"1g.10gb": 40, "3g.40gb": 8}},
        ],
    }
)

made = GpuNodePool("shared", pool)
pulumi.export("perNode", made.per_node)
pulumi.export("usdAnHour", made.slice_usd)
