"""A cluster in a VPC that exists already. `Network` makes such a VPC."""

import pulumi
from cogniforge.cluster.eks_cluster import EksCluster

config = pulumi.Config()
cluster = EksCluster(
    "eks",
    {
        "cluster_name": "shop",
        "subnet_ids": ["subnet-1", "subnet-2", "subnet-3"],
        "key_arn": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
        "region": "eu-central-1",
        "admins": ["arn:aws:iam::123456789012:role/shop-operators"],
        "node_pools": [
            {"name": "system", "instance_types": ["m7i.xlarge"], "min_nodes": 3, "max_nodes": 3},
            {"name": "services", "instance_types": ["m7i.2xlarge", "m6i.2xlarge"], "max_nodes": 20},
        ],
    },
)
pulumi.export("kubeconfig", cluster.kubeconfig)
