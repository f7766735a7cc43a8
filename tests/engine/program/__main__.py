"""Twelve components in one program; `tests/engine/test_own_program.py` previews and applies it from the wheel alone."""

import sys

import cogniforge
import pulumi
import pulumi_aws as aws
from cogniforge.cluster.aws_site import AwsSite
from cogniforge.cluster.eks_cluster import EksCluster
from cogniforge.cluster.encryption_key import EncryptionKey
from cogniforge.cluster.gpu_models import GpuModel
from cogniforge.cluster.gpu_node_pool import GpuNodePool
from cogniforge.cluster.namespace import PlatformNamespace
from cogniforge.cluster.network import Network
from cogniforge.config.data import Kafka, Postgres
from cogniforge.config.eks import Nat
from cogniforge.data.msk import Msk
from cogniforge.data.rds import Rds
from cogniforge.delivery.chart import Operator
from cogniforge.mesh.gateway import Gateway
from cogniforge.security.api_key import ApiKey
from cogniforge.security.certificate import Certificate
from cogniforge.security.logins import Logins

ACCOUNT, REGION, HOST = "111111111111", "us-east-1", "api.example.com"
config = pulumi.Config()
name = config.require("name")

# In a cluster.
space = PlatformNamespace("space", {"namespace": name, "owner": "somebody else"})
key = ApiKey("key", {"namespace": space.namespace, "secret_name": "key"})
certificate = Certificate("tls", {"namespace": space.namespace, "secret_name": "tls", "hosts": [HOST]})
logins = Logins("logins", {"namespace": space.namespace, "logins": {"app": ["postgres", "kafka"]}, "generation": 1})
gateway = Gateway(
    "gateway",
    {
        "hosts": [HOST],
        "port": 9443,
        "routes": [
            {
                "prefix": "/",
                "backend": {"name": "echo", "host": f"echo.{name}", "port": 8080},
                "timeout_seconds": 30,
                "idle_timeout_seconds": 10,
            }
        ],
        "rates": {
            "per_key": {"per_second": 50, "burst": 100},
            "per_address": {"per_second": 200, "burst": 400},
        },
        "namespace": space.namespace,
        "image": config.require("image"),
        "keys": {"client": key.key},
        "certificate_secret": certificate.secret_name,
        "certificate_version": "1",
        "replicas": 1,
        "cpu": "50m",
        "memory": "192Mi",
    },
)
pool = GpuNodePool(
    "own",
    {
        "name": "own",  # objects of a pool exist once in a cluster; the example's pool is called "shared"
        "gpu": GpuModel.H100_80,
        "gpus_per_node": 8,
        "mig": ["all-1g.10gb"] * 8,
        "max_nodes": 1,
        "hourly_usd": 40,
        "tenants": [{"namespace": f"{name}-tenant", "slices": {"1g.10gb": 40}}],
    },
)
operator = Operator(
    "delivery", "certificates", {"chart": "cert-manager", "namespace": f"{name}-certs", "deployment": "cert-manager"}
)

# On AWS.
account = aws.Provider("account", region=REGION, allowed_account_ids=[ACCOUNT])
on_aws = pulumi.ResourceOptions(providers={"aws": account})
encryption = EncryptionKey("encryption", {"purpose": "a test", "account_id": ACCOUNT}, on_aws)
network = Network(
    "network",
    {
        "cluster_name": name,
        "key_arn": encryption.arn,
        "region": REGION,
        "vpc_cidr": "10.10.0.0/16",
        "nat": Nat.SINGLE,
    },
    on_aws,
)
cluster = EksCluster(
    "cluster",
    {
        "cluster_name": name,
        "region": REGION,
        "admins": [f"arn:aws:iam::{ACCOUNT}:role/admin"],
        "node_pools": [{"name": "system", "instance_types": ["m7i.xlarge"], "min_nodes": 3, "max_nodes": 3}],
        "subnet_ids": network.private_subnet_ids,
        "key_arn": encryption.arn,
        "protect": False,
    },
    on_aws,
)
site = AwsSite.model_validate(
    {
        "account_id": ACCOUNT,
        "region": REGION,
        "vpc_id": network.vpc_id,
        "network": "10.10.0.0/16",
        "subnet_ids": network.private_subnet_ids,
        "key_arn": encryption.arn,
        "cluster_name": cluster.cluster_name,
        "security_group_id": cluster.security_group_id,
    }
)
database = Rds(
    "database",
    Postgres.model_validate({"storage": "20Gi", "rds": {"instanceClass": "db.m7g.large"}}),
    {"site": site, "user": "owner", "password": logins.password("app", "postgres"), "destroy_data": True},
    on_aws,
)
kafka = Msk(
    "events",
    Kafka.model_validate({"replicas": 3, "storage": "20Gi", "msk": {"instanceType": "kafka.m7g.large"}}),
    {"site": site, "users": {"app": logins.password("app", "kafka")}, "destroy_data": True},
    on_aws,
)

pulumi.export("key", key.key)
pulumi.export("prefix", sys.prefix)
pulumi.export("package", cogniforge.__file__)
pulumi.export("bootstrap", kafka.bootstrap)
