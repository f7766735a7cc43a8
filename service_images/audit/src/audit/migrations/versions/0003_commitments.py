"""Leaves commit to what entries tell; the contents lie beside them, and go with their tenant's key."""

from alembic import op

revision = "0003"
down_revision = "0002"

_KEPT = """
CREATE OR REPLACE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'entries' THEN
        -- Only what a tenant's key protects goes, with that key.
        IF {gone} AND (NEW.number, NEW.source, NEW.id, NEW.type, NEW.tenant, NEW.time, NEW.leaf)
            = (OLD.number, OLD.source, OLD.id, OLD.type, OLD.tenant, OLD.time, OLD.leaf) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the log is append-only';
END $$;
"""
UP = f"""
ALTER TABLE entries ADD COLUMN content bytea;
CREATE TABLE places (tenant text PRIMARY KEY, entries bigint NOT NULL);
INSERT INTO places SELECT tenant, count(*) FROM entries GROUP BY tenant;
{_KEPT.format(gone="NEW.subject IS NULL AND NEW.content IS NULL")}
"""
DOWN = f"""
{_KEPT.format(gone="NEW.subject IS NULL")}
DROP TABLE places;
ALTER TABLE entries DROP COLUMN content;
"""


def upgrade() -> None:
    """Add them. Entries that are there keep their leaves, of version 1."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them; contents of entries of version 2 are lost."""
    op.get_bind().exec_driver_sql(DOWN)
