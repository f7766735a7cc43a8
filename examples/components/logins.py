"""Passwords of two logins, for components that share them."""

from cogniforge.security.logins import Logins

logins = Logins(
    "shop-logins",
    {"namespace": "shop", "prefix": "shop", "logins": {"orders": ["postgres", "kafka"], "till": ["cache"]}},
)
