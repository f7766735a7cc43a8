"""Three brokers with a topic, a login that writes it, and one that reads it."""

import pulumi
from cogniforge.data.kafka_cluster import KafkaCluster

config = pulumi.Config()
kafka = KafkaCluster(
    "events",
    {
        "namespace": "shop",
        "image": config.require("kafka-image"),
        "tasks_image": config.require("tasks-image"),
        "replicas": 3,
        "storage": "50Gi",
        "topics": [{"name": "orders.placed.v1", "partitions": 12}],
        "users": [
            {"name": "till", "produces": ["orders.placed.v1"]},
            {"name": "store", "consumes": ["orders.placed.v1"]},
        ],
    },
)
pulumi.export("bootstrap", kafka.bootstrap)
