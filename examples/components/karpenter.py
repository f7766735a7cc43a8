"""Karpenter in a cluster that exists already, with a pool of spot nodes."""

from cogniforge.cluster.karpenter import Karpenter
from cogniforge.config.eks import Capacity

karpenter = Karpenter(
    "karpenter",
    {
        "cluster_name": "shop",
        "node_role_name": "shop-node",
        "node_role_arn": "arn:aws:iam::123456789012:role/shop-node",
        "region": "eu-central-1",
        "account_id": "123456789012",
        "key_arn": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
        "node_pools": [{"name": "batch", "instance_types": ["c7i.4xlarge"], "capacity": Capacity.SPOT}],
    },
)
