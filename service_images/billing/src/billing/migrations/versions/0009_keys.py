"""The API key of usage, and daily sums by key, which triggers keep as those of `0008`.

Usage from before this version has no key.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

TABLE = """
CREATE TABLE key_days (
    tenant text NOT NULL,
    day date NOT NULL,
    key text NOT NULL,
    events bigint NOT NULL,
    input_tokens numeric NOT NULL,
    output_tokens numeric NOT NULL,
    PRIMARY KEY (tenant, day, key)
) WITH (fillfactor = 50);
CREATE INDEX key_days_day ON key_days (day);
"""
OF_USERS = """
INSERT INTO key_days
SELECT tenant, day, '', sum(events), sum(input_tokens), sum(output_tokens) FROM user_days GROUP BY 1, 2
"""
ADD = """
INSERT INTO key_days AS s
SELECT tenant, (time AT TIME ZONE 'UTC')::date, key, sum(sign), sum(sign * input_tokens), sum(sign * output_tokens)
FROM ({changed}) AS c GROUP BY 1, 2, 3
HAVING (sum(sign), sum(sign * input_tokens), sum(sign * output_tokens)) <> (0, 0, 0) ORDER BY 1, 2, 3
ON CONFLICT (tenant, day, key) DO UPDATE SET
    events = s.events + excluded.events,
    input_tokens = s.input_tokens + excluded.input_tokens, output_tokens = s.output_tokens + excluded.output_tokens;
"""
EMPTIED = """
DELETE FROM key_days s USING (SELECT DISTINCT tenant, (time AT TIME ZONE 'UTC')::date AS day FROM removed) r
WHERE (s.tenant, s.day) = (r.tenant, r.day) AND s.events = 0;
"""
_READ = "tenant, time, key, input_tokens, output_tokens"
_ADDED = f"SELECT 1 AS sign, {_READ} FROM added"
_REMOVED = f"SELECT -1 AS sign, {_READ} FROM removed"
_NEW, _OLD = "NEW TABLE AS added", "OLD TABLE AS removed"
EVENTS = {
    "INSERT": (_ADDED, "", _NEW),
    "UPDATE": (f"{_ADDED} UNION ALL {_REMOVED}", EMPTIED, f"{_NEW} {_OLD}"),
    "DELETE": (_REMOVED, EMPTIED, _OLD),
}


def upgrade() -> None:
    """Make the column, the sums of the usage that is there, and what keeps them."""
    run = op.get_bind().exec_driver_sql
    run("ALTER TABLE usage ADD COLUMN key text NOT NULL DEFAULT ''")
    run(TABLE)
    run(OF_USERS)
    for event, (changed, emptied, tables) in EVENTS.items():
        name = f"usage_keyed_{event.lower()}"
        body = ADD.format(changed=changed) + emptied
        run(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$")
        run(f"CREATE TRIGGER {name} AFTER {event} ON usage REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()")  # fmt: skip
    run("ANALYZE key_days")


def downgrade() -> None:
    """Drop them."""
    for event in EVENTS:
        name = f"usage_keyed_{event.lower()}"
        op.execute(f"DROP TRIGGER {name} ON usage")
        op.execute(f"DROP FUNCTION {name}()")
    op.execute("DROP TABLE key_days")
    op.execute("ALTER TABLE usage DROP COLUMN key")
