"""TLS, API keys, limits and timeouts in front of two services."""

import pulumi
from cogniforge.mesh.gateway import Gateway

config = pulumi.Config()
gateway = Gateway(
    "entrance",
    {
        "image": config.require("gateway-image"),
        "namespace": "shop",
        "hosts": ["shop.example.com"],
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
        "cors": {"origins": ["https://www.example.com"]},
    },
)
pulumi.export("address", gateway.address)
