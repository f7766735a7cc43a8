"""A service with a database and events, which the gateway may call."""

import pulumi
from cogniforge.services.service import Service

config = pulumi.Config()
till = Service(
    "till",
    {
        "namespace": "shop",
        "image": config.require("till-image"),
        "replicas": 2,
        "resources": {"cpu": "250m", "memory": "512Mi"},
        "callers": ["gateway"],
        "environment": {"TILL_CURRENCY": "EUR"},
        "secrets": {"TILL_PROVIDER_KEY": {"secret": "payment-provider", "entry": "key"}},
        "egress": [443],
        "postgres": {"host": "sql.shop.svc", "login": {"secret_name": "shop-till"}},
        "kafka": {"bootstrap": "events.shop.svc:9092", "login": {"secret_name": "shop-till"}},
    },
)
pulumi.export("till", till.url)
