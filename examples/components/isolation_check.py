"""Each update proves that a pod without rights reaches no database."""

import pulumi
from cogniforge.security.isolation_check import IsolationCheck

config = pulumi.Config()
check = IsolationCheck(
    "isolated",
    {
        "namespace": "shop",
        "image": config.require("tasks-image"),
        "ports": {"sql": [5432, 6432], "events": [9092]},
        "control": {"host": "gateway.shop", "port": 443},
        "release": "2026-11",
    },
)
