"""Contents are found by their type and time, so that they can go when they have been kept long enough."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index."""
    op.execute("CREATE INDEX entries_content ON entries (time, type) WHERE content IS NOT NULL")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX entries_content")
