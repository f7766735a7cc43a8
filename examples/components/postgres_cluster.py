"""A PostgreSQL server with two databases, each with a login of its own."""

import pulumi
from cogniforge.data.postgres_cluster import PostgresCluster

config = pulumi.Config()
postgres = PostgresCluster(
    "sql",
    {
        "namespace": "shop",
        "image": config.require("postgres-image"),
        "exporters_image": config.require("exporters-image"),
        "databases": [{"name": "orders", "outbox": True}, {"name": "goods", "extensions": ["vector"]}],
        "capture": True,
        "storage": "20Gi",
        "callers": ["orders", "goods"],
        "customize": {"node_selector": {"disk": "fast"}},
    },
)
pulumi.export("postgres", postgres.host)
