"""Usage is searched by tenant, model, status and time."""

from alembic import op

revision = "0007"
down_revision = "0006"

_INDEXES = {
    "usage_tenant_time": "(tenant, time)",
    "usage_model_time": "(model, time)",
    # Most answers are good ones, which the other indexes find.
    "usage_failed": "(time) WHERE status >= 400",
}


def upgrade() -> None:
    """Make the column and the indexes. 0: the event did not state the status."""
    op.execute("ALTER TABLE usage ADD COLUMN status smallint NOT NULL DEFAULT 0")
    for name, columns in _INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON usage {columns}")


def downgrade() -> None:
    """Drop them."""
    for name in _INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.execute("ALTER TABLE usage DROP COLUMN status")
