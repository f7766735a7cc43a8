"""Keys know the program that acts for the user with them."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column for the program, empty for keys of people themselves."""
    op.execute("ALTER TABLE keys ADD COLUMN client text NOT NULL DEFAULT ''")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE keys DROP COLUMN client")
