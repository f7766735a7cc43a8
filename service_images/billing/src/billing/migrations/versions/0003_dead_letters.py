"""Events that cannot be processed."""

from kit.dead_letters import downgrade, upgrade

__all__ = ["downgrade", "upgrade"]
revision = "0003"
down_revision = "0002"
