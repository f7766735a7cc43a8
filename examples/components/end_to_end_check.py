"""Each update asks a model a question through the gateway, and fails if there is no answer."""

import pulumi
from cogniforge.observability.end_to_end import EndToEndCheck

config = pulumi.Config()
check = EndToEndCheck(
    "answers",
    {
        "namespace": "shop",
        "image": config.require("router-image"),
        "url": "https://gateway.shop/v1/chat/completions",
        "model": "demo",
        "key_secret": "key-web",
        "certificate_secret": "shop-tls",
        "release": "2026-11",
    },
)
