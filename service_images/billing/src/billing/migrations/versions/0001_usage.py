"""Usage, prices, credits, budgets, invoices."""

from alembic import op

revision = "0001"
down_revision = None

UP = """
CREATE TABLE usage (
    source text NOT NULL,
    id text NOT NULL,
    tenant text NOT NULL,
    period date NOT NULL,
    time timestamptz NOT NULL,
    model text NOT NULL,
    operation text NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached boolean NOT NULL,
    "user" text NOT NULL,
    duration_ms double precision NOT NULL,
    trace text NOT NULL,
    PRIMARY KEY (source, id)
);
CREATE INDEX usage_period ON usage (tenant, period);
CREATE TABLE prices (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL DEFAULT '',
    model text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('input', 'output', 'request')),
    usd numeric(20, 10) NOT NULL CHECK (usd >= 0),
    per bigint NOT NULL CHECK (per > 0),
    begins timestamptz NOT NULL,
    UNIQUE (tenant, model, kind, begins)
);
CREATE TABLE credits (
    tenant text NOT NULL,
    id text NOT NULL,
    usd numeric(20, 10) NOT NULL CHECK (usd > 0),
    period date NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE TABLE budgets (tenant text PRIMARY KEY, usd numeric(20, 10) NOT NULL CHECK (usd >= 0));
CREATE TABLE invoices (
    tenant text NOT NULL,
    period date NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    issued timestamptz NOT NULL DEFAULT now(),
    content jsonb NOT NULL,
    PRIMARY KEY (tenant, period)
);
"""

DOWN = "DROP TABLE usage, prices, credits, budgets, invoices;"


def upgrade() -> None:
    """Make the tables."""
    op.get_bind().exec_driver_sql(UP)


def downgrade() -> None:
    """Drop them."""
    op.get_bind().exec_driver_sql(DOWN)
