"""A key for a client of a gateway."""

from cogniforge.security.api_key import ApiKey

web = ApiKey("web", {"namespace": "shop", "secret_name": "key-web"})
