"""TLS, API keys, limits and timeouts in front of a service that is there already."""

import pulumi
from cogniforge.mesh.gateway import Gateway
from cogniforge.security.api_key import ApiKey
from cogniforge.security.certificate import Certificate

config = pulumi.Config()
namespace = config.require("namespace")
host = config.get("host") or "api.example.com"

keys = {client: ApiKey(client, {"namespace": namespace, "secret_name": f"key-{client}"}) for client in ("web", "batch")}
certificate = Certificate("certificate", {"namespace": namespace, "secret_name": "gateway-tls", "hosts": [host]})
gateway = Gateway(
    "gateway",
    {
        "hosts": [host],
        "port": 9443,
        "routes": [
            {
                "prefix": "/",
                "backend": {"name": "echo", "host": f"echo.{namespace}", "port": 8080},
                "timeout_seconds": 30,
                "idle_timeout_seconds": 10,
            }
        ],
        "rates": {
            "per_key": {"per_second": 50, "burst": 100},
            "per_address": {"per_second": 200, "burst": 400},
        },
        "namespace": namespace,
        "image": config.require("image"),
        "keys": {client: key.key for client, key in keys.items()},
        "certificate_secret": certificate.secret_name,
        "certificate_version": "1",
        "replicas": 1,
        "cpu": "50m",
        "memory": "192Mi",
    },
)

pulumi.export("address", gateway.address)
pulumi.export("keys", pulumi.Output.secret({client: key.key for client, key in keys.items()}))
