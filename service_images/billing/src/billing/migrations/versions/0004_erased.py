"""Tenants that were deleted: nothing more is counted of them, and nothing says who has used what."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.execute("CREATE TABLE erased (tenant text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE erased")
