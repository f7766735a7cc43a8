"""Names of the secret store that other areas use, too. Without imports."""

from __future__ import annotations

AUDIENCE = "secret-store"
"""Audience of the ServiceAccount tokens with which pods log in."""
DATABASE_ACCOUNT = f"{AUDIENCE}-databases"
"""Account of the task that connects the store to data servers."""
ISSUER = AUDIENCE
"""The store's own login in a data server, with which it makes the services' logins."""
POSTGRES, CACHE = "postgres", "cache"
"""Data servers for which the store issues logins, and names of its connections to them."""


def issued_name(base: str, system: str) -> str:
    """Name of something in the store that belongs to a login for a data server. Services' names have no dot.

    `base`: the service, for the role that makes logins; `rotation`, for the secret that counts the service's rotations.
    """
    return base if system == POSTGRES else f"{base}.{system}"
