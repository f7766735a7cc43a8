"""What the platform tells the service, in the same variables as the bundled services."""

from __future__ import annotations

import os

PORT = int(os.environ.get("SERVICE_PORT", "8080"))
ROUTER = os.environ.get("SERVICE_ROUTER_URL", "")
USER = os.environ.get("SERVICE_USER_URL", "")
"""Empty where the environment has no tenants: then the gateway looks at keys."""
MODEL = os.environ.get("NOTES_MODEL", "demo")
"""From `environment` of the service's section."""


def database(*, pooled: bool) -> str:
    """How to reach the service's database: requests through the pool (6432), changes of tables directly (5432)."""
    host, port = ("SERVICE_POSTGRES_HOST", 6432) if pooled else ("SERVICE_POSTGRES_DIRECT_HOST", 5432)
    port = int(os.environ.get("NOTES_POSTGRES_PORT", port))
    password = os.environ.get("SERVICE_POSTGRES_PASSWORD", "")
    return f"postgresql://notes:{password}@{os.environ[host]}:{port}/notes"
