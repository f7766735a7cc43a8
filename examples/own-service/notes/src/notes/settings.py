"""What the platform tells the service, in the same variables and files as the bundled services."""

from __future__ import annotations

import os
from pathlib import Path

PORT = int(os.environ.get("SERVICE_PORT", "8080"))
ROUTER = os.environ.get("SERVICE_ROUTER_URL", "")
USER = os.environ.get("SERVICE_USER_URL", "")
"""Empty where the environment has no tenants: then the gateway looks at keys."""
MODEL = os.environ.get("NOTES_MODEL", "demo")
"""From `environment` of the service's section."""


SECRETS = Path(os.environ.get("NOTES_SECRETS", "/var/run/secrets/service"))
"""Folder with a file for each secret."""


def database(*, pooled: bool) -> str:
    """How to reach the service's database: requests through the pool (6432), changes of tables directly (5432).

    The password is read from its file for each connection, so that a replaced one needs no restart.
    """
    host, port = ("SERVICE_POSTGRES_HOST", 6432) if pooled else ("SERVICE_POSTGRES_DIRECT_HOST", 5432)
    port = int(os.environ.get("NOTES_POSTGRES_PORT", port))
    password = (SECRETS / "SERVICE_POSTGRES_PASSWORD").read_text().strip()
    return f"postgresql://notes:{password}@{os.environ[host]}:{port}/notes"
