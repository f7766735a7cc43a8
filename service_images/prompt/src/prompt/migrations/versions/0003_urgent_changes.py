"""Urgent changes go first; what cannot be published is set aside."""

from kit.publishing import downgrade, upgrade

__all__ = ["downgrade", "upgrade"]
revision = "0003"
down_revision = "0002"
