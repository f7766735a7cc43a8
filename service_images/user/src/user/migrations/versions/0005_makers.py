"""Keys know the key that they were made with, and go with it. Of earlier ones nobody knows."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what is known."""
    op.execute("ALTER TABLE keys ADD COLUMN maker text")
    op.execute("CREATE INDEX keys_maker ON keys (maker)")


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE keys DROP COLUMN maker")
