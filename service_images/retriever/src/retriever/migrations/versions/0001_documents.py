"""Tables for files, stores, and the files in each store. Passages are in the vector database."""

from alembic import op

revision = "0001"
down_revision = None

UP = """
CREATE TABLE files (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    bytes bigint NOT NULL,
    media text NOT NULL,
    purpose text NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_tenant ON files (tenant, created);
CREATE TABLE stores (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    metadata jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stores_tenant ON stores (tenant, created);
CREATE TABLE store_files (
    store text NOT NULL REFERENCES stores ON DELETE CASCADE,
    file text NOT NULL REFERENCES files ON DELETE CASCADE,
    status text NOT NULL DEFAULT 'in_progress' CHECK (status IN ('in_progress', 'completed', 'failed')),
    error text NOT NULL DEFAULT '',
    attempts int NOT NULL DEFAULT 0,
    attributes jsonb NOT NULL,
    readers text[] NOT NULL,
    chunk_tokens int NOT NULL,
    overlap_tokens int NOT NULL,
    passages int NOT NULL DEFAULT 0,
    actor text NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store, file)
);
CREATE INDEX store_files_waiting ON store_files (created) WHERE status = 'in_progress';
"""

DOWN = "DROP TABLE store_files, stores, files;"


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(DOWN)
