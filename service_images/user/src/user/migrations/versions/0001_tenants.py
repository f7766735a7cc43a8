"""Tenants, users, teams, keys, relations."""

from alembic import op
from kit import publishing

revision = "0001"
down_revision = None

UP = f"""
{publishing.TABLE};
CREATE TABLE tenants (
    id text PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    models text[] NOT NULL DEFAULT '{{}}',
    requests_per_minute int NOT NULL DEFAULT 0,
    tokens_per_minute int NOT NULL DEFAULT 0,
    policy jsonb,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE users (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    email text NOT NULL,
    name text NOT NULL DEFAULT '',
    issuer text,
    subject text,
    created timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant, email),
    UNIQUE (issuer, subject)
);
CREATE INDEX users_email ON users (email);
CREATE TABLE teams (
    tenant text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    id text NOT NULL,
    name text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, id)
);
CREATE TABLE keys (
    id text PRIMARY KEY,
    tenant text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    "user" text REFERENCES users ON DELETE CASCADE,
    name text NOT NULL,
    digest text NOT NULL UNIQUE,
    hint text NOT NULL,
    scopes text[] NOT NULL DEFAULT '{{}}',
    created timestamptz NOT NULL DEFAULT now(),
    expires timestamptz,
    revoked timestamptz
);
CREATE INDEX keys_tenant ON keys (tenant, created);
CREATE TABLE relations (
    tenant text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    object text NOT NULL,
    relation text NOT NULL,
    subject text NOT NULL,
    PRIMARY KEY (tenant, object, relation, subject)
);
CREATE INDEX relations_subject ON relations (tenant, subject);
"""

DOWN = "DROP TABLE relations, keys, teams, users, tenants, changes;"


def upgrade() -> None:
    """Make the tables."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(DOWN)
