"""NATS with two accounts: the till publishes, and the store receives."""

import pulumi
from cogniforge.data.nats import Nats

config = pulumi.Config()
bus = Nats(
    "bus",
    {
        "namespace": "shop",
        "image": config.require("nats-image"),
        "tasks_image": config.require("tasks-image"),
        "exporters_image": config.require("exporters-image"),
        "accounts": [
            {"name": "till", "sends": ["orders.paid"], "keeps": ["prices"]},
            {"name": "store", "hears": ["orders.paid"], "follows": ["prices"]},
        ],
    },
)
pulumi.export("nats", bus.url)
