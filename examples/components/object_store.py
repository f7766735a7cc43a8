"""A bucket that belongs to one login."""

import pulumi
from cogniforge.data.object_store import ObjectStore

config = pulumi.Config()
store = ObjectStore(
    "objects",
    {
        "namespace": "shop",
        "image": config.require("object-store-image"),
        "tasks_image": config.require("tasks-image"),
        "exporters_image": config.require("exporters-image"),
        "buckets": {"receipts": "till"},
        "storage": "100Gi",
    },
)
pulumi.export("objects", store.endpoint)
