"""Usage is found by the ID of its request."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the column and its index. Clients choose IDs, so one ID may have many rows: the index has their order."""
    op.execute("ALTER TABLE usage ADD COLUMN request text NOT NULL DEFAULT ''")
    op.execute("CREATE INDEX usage_request ON usage (request, tenant, time) WHERE request <> ''")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP INDEX usage_request")
    op.execute("ALTER TABLE usage DROP COLUMN request")
