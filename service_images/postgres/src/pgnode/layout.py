"""SQL of a collection's table and indexes, for psycopg. Without imports, so that tests can use it, too."""

SCHEMA = "CREATE SCHEMA IF NOT EXISTS vectors"
TABLE = """
CREATE TABLE IF NOT EXISTS vectors.{table} (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    document text NOT NULL,
    readers text[] NOT NULL DEFAULT '{{}}',
    content text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{{}}',
    embedding vector({dimension}) NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', content)) STORED
);
CREATE INDEX IF NOT EXISTS {words} ON vectors.{table} USING gin (words);
CREATE INDEX IF NOT EXISTS {documents} ON vectors.{table} (tenant, document);
"""
NEAR = """
CREATE INDEX {concurrently} {name} ON vectors.{table} USING hnsw (embedding {operators})
WITH (m = {links}, ef_construction = {effort})
"""
