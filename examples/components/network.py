"""A VPC with one NAT gateway, for a cluster that costs little."""

import pulumi
from cogniforge.cluster.network import Network
from cogniforge.config.eks import Nat

config = pulumi.Config()
network = Network(
    "network",
    {
        "cluster_name": "shop",
        "key_arn": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
        "region": "eu-central-1",
        "vpc_cidr": "10.30.0.0/16",
        "nat": Nat.SINGLE,
    },
)
pulumi.export("subnets", network.private_subnet_ids)
