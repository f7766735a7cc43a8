"""Usage is found by its time, so that it can go when it has been kept long enough."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the index."""
    op.execute("CREATE INDEX usage_time ON usage (time)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX usage_time")
