"""A cache in which two services have keys of their own."""

import pulumi
from cogniforge.data.cache import Cache

config = pulumi.Config()
cache = Cache(
    "sessions",
    {
        "namespace": "shop",
        "image": config.require("cache-image"),
        "tasks_image": config.require("tasks-image"),
        "exporters_image": config.require("exporters-image"),
        "users": ["till", "store"],
        "resources": {"cpu": "250m", "memory": "1Gi"},
    },
)
pulumi.export("cache", cache.url)
