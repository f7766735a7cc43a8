"""Nodes with eight H100 each, cut for two tenants, in a cluster with Karpenter."""

import pulumi
from cogniforge.cluster.gpu_models import GpuModel
from cogniforge.cluster.gpu_node_pool import GpuNodePool

config = pulumi.Config()
pool = GpuNodePool(
    "shared",
    {
        "name": "shared",
        "gpu": GpuModel.H100_80,
        "instance_type": "p5.48xlarge",
        "mig": ["all-1g.10gb"] * 4 + [{"3g.40gb": 1, "1g.10gb": 4}] * 4,
        "max_nodes": 2,
        "tenants": [
            {"namespace": "team-small", "slices": {"1g.10gb": 40}},
            {"namespace": "team-large", "slices": {"1g.10gb": 40, "3g.40gb": 8}},
        ],
        "nodes": {
            "cluster_name": "shop",
            "node_role_name": "shop-node",
            "node_role_arn": "arn:aws:iam::123456789012:role/shop-node",
            "subnet_ids": ["subnet-1", "subnet-2", "subnet-3"],
            "key_arn": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
        },
    },
)
pulumi.export("perNode", pool.per_node)
