"""Keys of the secret store: which key has signed a checkpoint, and where a tenant's data key is encrypted."""

from alembic import op

revision = "0006"
down_revision = "0005"

UP = """
-- Number 0 is the key that comes from the installation's own secret.
CREATE TABLE signers (
    number int PRIMARY KEY, key text NOT NULL, version int NOT NULL, since timestamptz NOT NULL, retired bigint);
ALTER TABLE checkpoints ADD COLUMN signer int NOT NULL DEFAULT 0;
CREATE INDEX checkpoints_signer ON checkpoints (signer, size);
ALTER TABLE keys ADD COLUMN name text UNIQUE, ADD COLUMN wrapped text, ADD COLUMN destroyed timestamptz,
    ADD COLUMN rotation int NOT NULL DEFAULT 0;
CREATE INDEX keys_left ON keys (tenant) WHERE sealed IS NOT NULL;
CREATE INDEX keys_shredded ON keys (tenant) WHERE shredded IS NOT NULL AND name IS NOT NULL AND destroyed IS NULL;
"""
DOWN = """
DROP INDEX keys_left, keys_shredded, checkpoints_signer;
ALTER TABLE keys DROP COLUMN name, DROP COLUMN wrapped, DROP COLUMN destroyed, DROP COLUMN rotation;
ALTER TABLE checkpoints DROP COLUMN signer;
DROP TABLE signers;
"""


def upgrade() -> None:
    """Add them. Keys and checkpoints that are there belong to the installation's own secret."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them. Refused once a key is in the secret store only, because an earlier release cannot read it."""
    found = op.get_bind().exec_driver_sql(
        "SELECT count(*) FROM keys WHERE shredded IS NULL AND sealed IS NULL AND name IS NOT NULL"
    )
    if kept := found.scalar_one():
        raise RuntimeError(
            f"the keys of {kept} tenants are in the secret store, where an earlier release cannot use them"
        )
    op.get_bind().exec_driver_sql(DOWN)
