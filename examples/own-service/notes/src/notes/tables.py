"""`python3 -m notes.tables`: makes the tables, before the service starts. It can run any number of times."""

from __future__ import annotations

import psycopg

from notes import settings

TABLES = """
CREATE TABLE IF NOT EXISTS notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    question text NOT NULL,
    answer text NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
)
"""

if __name__ == "__main__":
    with psycopg.connect(settings.database(pooled=False)) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1)")  # replicas that start together wait for one another
        connection.execute(TABLES)
