"""Table for the answers of requests with an Idempotency-Key."""

from kit.repeats import downgrade, upgrade

__all__ = ["downgrade", "upgrade"]
revision = "0002"
down_revision = "0001"
