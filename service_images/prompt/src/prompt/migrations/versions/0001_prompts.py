"""Prompts, versions, labels, splits."""

from alembic import op
from kit import publishing

revision = "0001"
down_revision = None

UP = f"""
{publishing.TABLE};
CREATE TABLE prompts (
    tenant text NOT NULL,
    name text NOT NULL,
    type text NOT NULL CHECK (type IN ('text', 'chat')),
    last int NOT NULL DEFAULT 0,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name)
);
CREATE TABLE versions (
    tenant text NOT NULL,
    name text NOT NULL,
    number int NOT NULL,
    content jsonb NOT NULL,
    variables jsonb NOT NULL,
    config jsonb NOT NULL,
    includes jsonb NOT NULL,
    message text NOT NULL,
    actor text NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name, number),
    FOREIGN KEY (tenant, name) REFERENCES prompts ON DELETE CASCADE
);
CREATE TABLE labels (
    tenant text NOT NULL,
    name text NOT NULL,
    label text NOT NULL,
    version int NOT NULL,
    protected boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, name, label),
    FOREIGN KEY (tenant, name, version) REFERENCES versions ON DELETE CASCADE
);
CREATE TABLE splits (
    tenant text NOT NULL,
    name text NOT NULL,
    split text NOT NULL,
    weights jsonb NOT NULL,
    PRIMARY KEY (tenant, name, split),
    FOREIGN KEY (tenant, name) REFERENCES prompts ON DELETE CASCADE
);
-- A version never changes: the database itself sees to it.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'a version never changes'; END $$;
CREATE TRIGGER immutable BEFORE UPDATE ON versions FOR EACH ROW EXECUTE FUNCTION refuse();
"""

DOWN = "DROP TABLE splits, labels, versions, prompts, changes; DROP FUNCTION refuse;"


def upgrade() -> None:
    """Make the tables."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(DOWN)
