"""The gateway may call the till, the till may call the store, and nobody else may call either."""

from cogniforge.mesh.istio import MeshPolicy

policy = MeshPolicy(
    "shop",
    {
        "namespace": "shop",
        "callers": {"till": ["gateway"], "store": ["till"]},
        "metrics": {"till": 8080, "store": 8080},
        "scraper": {"namespace": "monitoring", "account": "prometheus"},
        "entrance": {"service": "gateway", "port": 8443},
    },
)
