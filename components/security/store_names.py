"""Names of the secret store that other areas use, too. Without imports."""

from __future__ import annotations

AUDIENCE = "secret-store"
"""Audience of the ServiceAccount tokens with which pods log in."""
DATABASE_ACCOUNT = f"{AUDIENCE}-databases"
"""Account of the task that connects the store to PostgreSQL."""
ISSUER = AUDIENCE
"""The store's own login in PostgreSQL, with which it makes the services' logins."""
