"""A registry for the schema of one topic. Its database exists already."""

import pulumi
from cogniforge.data.schema_registry import SchemaRegistry

config = pulumi.Config()
registry = SchemaRegistry(
    "schemas",
    {
        "namespace": "shop",
        "image": config.require("schema-registry-image"),
        "guard_image": config.require("gateway-image"),
        "tasks_image": config.require("tasks-image"),
        "postgres_host": "sql.shop.svc",
        "database": "registry",
        "logins": {"registry": {"secret_name": "sql-login-registry"}},
        "schemas": {"orders.placed.v1": '{"type": "object", "required": ["id"]}'},
        "callers": ["till", "store"],
    },
)
pulumi.export("schemas", registry.url)
