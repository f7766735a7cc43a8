"""Names of the secret store that other areas use, too. Without imports."""

from __future__ import annotations

AUDIENCE = "secret-store"
"""Audience of the ServiceAccount tokens with which pods log in."""
DATABASE_ACCOUNT = f"{AUDIENCE}-databases"
"""Account of the task that connects the store to data servers."""
ISSUER = AUDIENCE
"""The store's own login in a data server, with which it makes the services' logins."""
LONGEST_HOURS = 24
"""Hours for which a pod's login at the store can be renewed. A login for a data server ends with it."""
POSTGRES, CACHE = "postgres", "cache"
"""Data servers for which the store issues logins, and names of its connections to them."""
NATS = "nats"
"""Data server for which pods register logins in the store."""
REGISTERED = (NATS,)
"""All such data servers. Each is the name of the account of the server's pods, too, which read the registrations."""


def issued_name(base: str, system: str) -> str:
    """Name of something in the store that belongs to a login for a data server. Services' names have no dot.

    `base`: the service, for the role that makes logins; `rotation`, for the secret that counts the service's rotations.
    """
    return base if system == POSTGRES else f"{base}.{system}"


def registry(system: str) -> str:
    """Folder of secrets in which pods register logins for a data server. No service's name has a dot."""
    return f"logins.{system}"
