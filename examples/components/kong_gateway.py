"""The same two services behind Kong, which accepts tokens of a login service."""

import pulumi
from cogniforge.mesh.kong_gateway import KongGateway

config = pulumi.Config()
gateway = KongGateway(
    "kong",
    {
        "namespace": "shop",
        "hosts": ["kong.example.com"],
        "certificate_secret": "shop-tls",
        "keys": {"web": config.require_secret("web-key")},
        "routes": [
            {"prefix": "/v1/orders", "backend": {"name": "till", "host": "till.shop", "port": 8080}},
            {
                "prefix": "/v1/receipts/",
                "backend": {"name": "store", "host": "store.shop", "port": 8080},
                "timeout_seconds": 60,
                "max_body_bytes": 16 * 2**20,
            },
        ],
        "replicas": 2,
        "oidc": {"issuer": "https://login.example.com", "audience": "shop"},
    },
)
pulumi.export("kong", gateway.address)
