"""Two collections of vectors in a database that exists already."""

import pulumi
from cogniforge.data.vector_database import VectorDatabase

config = pulumi.Config()
vectors = VectorDatabase(
    "vectors",
    {
        "namespace": "shop",
        "image": config.require("postgres-image"),
        "postgres_host": "sql.shop.svc",
        "postgres_name": "sql",
        "owner": "goods",
        "logins": {"goods": {"secret_name": "sql-login-goods"}},
        "collections": [{"name": "goods", "dimension": 1024}, {"name": "reviews", "dimension": 384, "links": 32}],
    },
)
