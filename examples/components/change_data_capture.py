"""Rows of the outbox of one database become events in Kafka."""

import pulumi
from cogniforge.data.change_data_capture import ChangeDataCapture

config = pulumi.Config()
capture = ChangeDataCapture(
    "capture",
    {
        "namespace": "shop",
        "image": config.require("kafka-image"),
        "tasks_image": config.require("tasks-image"),
        "postgres_host": "sql.shop.svc",
        "bootstrap": "events.shop.svc:9092",
        "outboxes": ["orders"],
        "logins": {"capture": {"secret_name": "shop-capture"}},
    },
)
