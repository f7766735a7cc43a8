"""Ingestion with turns and leases, batches, expiry, owners and readers of files."""

from alembic import op

revision = "0003"
down_revision = "0002"

UP = """
ALTER TABLE files
    ADD COLUMN owner text NOT NULL DEFAULT '',
    ADD COLUMN readers text[] NOT NULL DEFAULT '{}',
    ADD COLUMN expires timestamptz;
CREATE INDEX files_expires ON files (expires) WHERE expires IS NOT NULL;
ALTER TABLE stores
    ADD COLUMN owner text NOT NULL DEFAULT '',
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN expires_days int,
    ADD COLUMN active timestamptz NOT NULL DEFAULT now();
CREATE INDEX stores_expire ON stores (active) WHERE expires_days IS NOT NULL;
CREATE TABLE batches (
    id text PRIMARY KEY,
    store text NOT NULL REFERENCES stores ON DELETE CASCADE,
    cancelled boolean NOT NULL DEFAULT false,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX batches_store ON batches (store, created);
CREATE TABLE turns (
    tenant text PRIMARY KEY,
    served timestamptz NOT NULL DEFAULT 'epoch'
);
ALTER TABLE store_files
    ADD COLUMN tenant text NOT NULL DEFAULT '',
    ADD COLUMN lease text NOT NULL DEFAULT '',
    ADD COLUMN free_at timestamptz NOT NULL DEFAULT 'epoch',
    ADD COLUMN waits int NOT NULL DEFAULT 0,
    ADD COLUMN code text NOT NULL DEFAULT '',
    ADD COLUMN bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN batch text REFERENCES batches ON DELETE SET NULL,
    DROP CONSTRAINT store_files_status_check,
    ADD CONSTRAINT store_files_status_check CHECK (status IN ('in_progress', 'completed', 'failed', 'cancelled'));
UPDATE store_files f SET tenant = d.tenant, attempts = CASE WHEN f.status = 'in_progress' THEN 0 ELSE f.attempts END
FROM files d WHERE d.id = f.file;
-- Who put a file into a store first is the nearest that is known to who uploaded it.
UPDATE files d SET owner = f.actor FROM (
    SELECT DISTINCT ON (file) file, actor FROM store_files ORDER BY file, created) AS f WHERE f.file = d.id;
INSERT INTO turns (tenant) SELECT DISTINCT tenant FROM store_files;
DROP INDEX store_files_waiting;
CREATE INDEX store_files_waiting ON store_files (tenant, attempts, created) WHERE status = 'in_progress';
CREATE INDEX store_files_file ON store_files (file);
CREATE INDEX store_files_batch ON store_files (batch) WHERE batch IS NOT NULL;
CREATE INDEX store_files_tenant ON store_files (tenant);
-- Also for replicas of the version before, which run on while this one is rolled out.
CREATE FUNCTION of_its_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT tenant INTO NEW.tenant FROM files WHERE id = NEW.file;
    INSERT INTO turns (tenant) VALUES (NEW.tenant) ON CONFLICT DO NOTHING;
    RETURN NEW;
END $$;
CREATE TRIGGER of_its_tenant BEFORE INSERT ON store_files FOR EACH ROW EXECUTE FUNCTION of_its_tenant();
"""

DOWN = """
DROP TRIGGER of_its_tenant ON store_files;
DROP FUNCTION of_its_tenant();
UPDATE store_files SET status = 'failed', error = 'It was cancelled.' WHERE status = 'cancelled';
DROP INDEX store_files_waiting, store_files_file, store_files_batch, store_files_tenant;
ALTER TABLE store_files
    DROP COLUMN tenant, DROP COLUMN lease, DROP COLUMN free_at, DROP COLUMN waits, DROP COLUMN code, DROP COLUMN bytes,
    DROP COLUMN batch,
    DROP CONSTRAINT store_files_status_check,
    ADD CONSTRAINT store_files_status_check CHECK (status IN ('in_progress', 'completed', 'failed'));
CREATE INDEX store_files_waiting ON store_files (created) WHERE status = 'in_progress';
DROP TABLE turns, batches;
ALTER TABLE stores DROP COLUMN owner, DROP COLUMN description, DROP COLUMN expires_days, DROP COLUMN active;
ALTER TABLE files DROP COLUMN owner, DROP COLUMN readers, DROP COLUMN expires;
"""


def upgrade() -> None:
    """Create and change the tables."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Restore the previous tables."""
    op.get_bind().exec_driver_sql(DOWN)
