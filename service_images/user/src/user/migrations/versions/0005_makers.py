"""Keys know the key that they were made with, and go with it. Of earlier ones nobody knows."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column for the key that a key was derived from."""
    op.execute("ALTER TABLE keys ADD COLUMN maker text")
    op.execute("CREATE INDEX keys_maker ON keys (maker)")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE keys DROP COLUMN maker")
