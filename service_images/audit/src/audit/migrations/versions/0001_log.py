"""The log: entries, tiles, checkpoints, and the keys of tenants."""

from alembic import op

revision = "0001"
down_revision = None

UP = """
CREATE TABLE entries (
    number bigint PRIMARY KEY,
    source text NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    tenant text NOT NULL,
    subject text,
    time timestamptz NOT NULL,
    trace text,
    leaf bytea NOT NULL,
    UNIQUE (source, id)
);
CREATE INDEX entries_subject ON entries (tenant, subject, number);
CREATE INDEX entries_tenant ON entries (tenant, number);
CREATE TABLE tiles (level int, number bigint, hashes bytea NOT NULL, PRIMARY KEY (level, number));
CREATE TABLE checkpoints (size bigint PRIMARY KEY, root bytea NOT NULL, note text NOT NULL, made timestamptz NOT NULL);
CREATE TABLE keys (tenant text PRIMARY KEY, sealed bytea, shredded timestamptz);
-- What is written stays: not even the service's own login changes an entry or a checkpoint.
CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'entries' THEN
        -- But for the name of what an entry is about, which goes with its tenant's key.
        IF NEW.subject IS NULL AND (NEW.number, NEW.source, NEW.id, NEW.type, NEW.tenant, NEW.time, NEW.leaf)
            = (OLD.number, OLD.source, OLD.id, OLD.type, OLD.tenant, OLD.time, OLD.leaf) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the log is append-only';
END $$;
CREATE TRIGGER kept BEFORE UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION kept();
CREATE TRIGGER kept BEFORE UPDATE OR DELETE ON checkpoints FOR EACH ROW EXECUTE FUNCTION kept();
CREATE TRIGGER kept_whole BEFORE TRUNCATE ON entries EXECUTE FUNCTION kept();
"""

DOWN = "DROP TABLE entries, tiles, checkpoints, keys; DROP FUNCTION kept();"


def upgrade() -> None:
    """Make the tables."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(DOWN)
