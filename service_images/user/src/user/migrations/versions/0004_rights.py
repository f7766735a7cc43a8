"""Keys name what they allow; an identity is one user in each tenant, not in all together; ids are used once."""

from alembic import op

revision = "0004"
down_revision = "0003"

_TENANT = "'inference', 'embeddings', 'guardrails', 'prompts', 'retrieval', 'billing', 'audit', 'manage'"
_MEMBER = "'inference', 'embeddings', 'guardrails', 'retrieval'"
UP = f"""
UPDATE keys k SET scopes = CASE
    WHEN k.name = 'login' AND NOT EXISTS (
        SELECT FROM relations r WHERE r.tenant = k.tenant AND r.object = 'tenant:' || k.tenant
        AND r.subject = 'user:' || k."user" AND r.relation IN ('owner', 'admin')
    ) THEN ARRAY[{_MEMBER}] ELSE ARRAY[{_TENANT}] END
WHERE cardinality(k.scopes) = 0;
INSERT INTO changes (bucket, key) SELECT 'tenants', 'k.' || digest FROM keys WHERE revoked IS NULL;
ALTER TABLE keys ALTER scopes DROP DEFAULT, ADD CONSTRAINT keys_scopes CHECK (cardinality(scopes) > 0);
ALTER TABLE users DROP CONSTRAINT users_issuer_subject_key;
ALTER TABLE users ADD CONSTRAINT users_identity UNIQUE (tenant, issuer, subject);
CREATE INDEX users_identity_anywhere ON users (issuer, subject);
CREATE TABLE deleted_tenants (
    id text PRIMARY KEY,
    deleted timestamptz NOT NULL DEFAULT now(),
    waiting text[] NOT NULL,  -- services that have not acknowledged it yet
    erased jsonb NOT NULL DEFAULT '{{}}'  -- when each of the others has
);
"""
DOWN = """
DROP TABLE deleted_tenants;
DROP INDEX users_identity_anywhere;
ALTER TABLE users DROP CONSTRAINT users_identity;
ALTER TABLE users ADD CONSTRAINT users_issuer_subject_key UNIQUE (issuer, subject);
ALTER TABLE keys DROP CONSTRAINT keys_scopes, ALTER scopes SET DEFAULT '{}';
"""


def upgrade() -> None:
    """Change the tables."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Change them back; keys keep the scopes that they have by then."""
    op.get_bind().exec_driver_sql(DOWN)
