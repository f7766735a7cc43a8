"""Table for dead letters."""

from kit.dead_letters import downgrade, upgrade

__all__ = ["downgrade", "upgrade"]
revision = "0004"
down_revision = "0003"
