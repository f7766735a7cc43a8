"""A store of three servers, unsealed by a key that the operator keeps, with a signing key for the till."""

import pulumi
from cogniforge.security.secret_store import SecretStore
from cogniforge.services.record import KeyUse

config = pulumi.Config()
store = SecretStore(
    "vault",
    {
        "namespace": "shop",
        "image": config.require("openbao-image"),
        "seal_secret_name": "shop-unseal",
        "clients": [{"name": "till", "store_keys": {"receipts": KeyUse.SIGN}}, {"name": "store"}],
    },
)
pulumi.export("store", store.url)
