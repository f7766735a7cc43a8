"""Operators find entries by their subject, whichever tenant they belong to."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the index."""
    op.execute("CREATE INDEX entries_about ON entries (subject, number) WHERE subject IS NOT NULL")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX entries_about")
