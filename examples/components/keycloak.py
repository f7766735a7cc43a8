"""Keycloak for one site. Its database exists already, and the site's proxy forwards people's browsers."""

import pulumi
from cogniforge.security.keycloak import Keycloak

config = pulumi.Config()
keycloak = Keycloak(
    "people",
    {
        "namespace": "shop",
        "image": config.require("keycloak-image"),
        "postgres_host": "sql.shop.svc",
        "database": "people",
        "logins": {
            "people": {
                "secret_name": "sql-login-people",
                "passwords": {"postgres": config.require_secret("people-password")},
            }
        },
        "url": "https://shop.example.com",
        "gateways": ["proxy"],
        "callers": ["till"],
    },
)
pulumi.export("keycloak", keycloak.url)
