"""Daily sums of usage, which triggers keep in the transaction of every change of the usage itself.

Invoices, budgets and meters read them instead of each record. The triggers see all changes: new usage, expired records,
erased names. All of them change sums in the order of their keys, so that they do not wait for each other in a circle.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

TABLES = """
CREATE TABLE model_days (
    tenant text NOT NULL,
    period date NOT NULL,
    day date NOT NULL,
    model text NOT NULL,
    operation text NOT NULL,
    cached boolean NOT NULL,
    events bigint NOT NULL,
    input_tokens numeric NOT NULL,
    input_events bigint NOT NULL,
    output_tokens numeric NOT NULL,
    output_events bigint NOT NULL,
    PRIMARY KEY (tenant, period, day, model, operation, cached)
) WITH (fillfactor = 50);
CREATE INDEX model_days_day ON model_days (day);
CREATE TABLE user_days (
    tenant text NOT NULL,
    day date NOT NULL,
    "user" text NOT NULL,
    events bigint NOT NULL,
    input_tokens numeric NOT NULL,
    output_tokens numeric NOT NULL,
    PRIMARY KEY (tenant, day, "user")
) WITH (fillfactor = 50);
CREATE INDEX user_days_day ON user_days (day);
"""
ADD = """
INSERT INTO model_days AS s
SELECT tenant, period, (time AT TIME ZONE 'UTC')::date, model, operation, cached, sum(sign), sum(sign * input_tokens),
       sum(sign * (input_tokens > 0)::int), sum(sign * output_tokens), sum(sign * (output_tokens > 0)::int)
FROM {changed} AS c GROUP BY 1, 2, 3, 4, 5, 6
HAVING (sum(sign), sum(sign * input_tokens), sum(sign * output_tokens)) <> (0, 0, 0) ORDER BY 1, 2, 3, 4, 5, 6
ON CONFLICT (tenant, period, day, model, operation, cached) DO UPDATE SET
    events = s.events + excluded.events,
    input_tokens = s.input_tokens + excluded.input_tokens, input_events = s.input_events + excluded.input_events,
    output_tokens = s.output_tokens + excluded.output_tokens, output_events = s.output_events + excluded.output_events;
INSERT INTO user_days AS s
SELECT tenant, (time AT TIME ZONE 'UTC')::date, "user", sum(sign), sum(sign * input_tokens), sum(sign * output_tokens)
FROM {changed} AS c GROUP BY 1, 2, 3
HAVING (sum(sign), sum(sign * input_tokens), sum(sign * output_tokens)) <> (0, 0, 0) ORDER BY 1, 2, 3
ON CONFLICT (tenant, day, "user") DO UPDATE SET
    events = s.events + excluded.events,
    input_tokens = s.input_tokens + excluded.input_tokens, output_tokens = s.output_tokens + excluded.output_tokens;
"""
EMPTIED = """
DELETE FROM model_days s USING (SELECT DISTINCT tenant, period, (time AT TIME ZONE 'UTC')::date AS day FROM removed) r
WHERE (s.tenant, s.period, s.day) = (r.tenant, r.period, r.day) AND s.events = 0;
DELETE FROM user_days s USING (SELECT DISTINCT tenant, (time AT TIME ZONE 'UTC')::date AS day FROM removed) r
WHERE (s.tenant, s.day) = (r.tenant, r.day) AND s.events = 0;
"""
_READ = 'tenant, period, time, model, operation, cached, "user", input_tokens, output_tokens'
_ADDED = f"SELECT 1 AS sign, {_READ} FROM added"
_REMOVED = f"SELECT -1 AS sign, {_READ} FROM removed"
_NEW, _OLD = "NEW TABLE AS added", "OLD TABLE AS removed"
EVENTS = {
    "INSERT": (_ADDED, "", _NEW),
    "UPDATE": (f"{_ADDED} UNION ALL {_REMOVED}", EMPTIED, f"{_NEW} {_OLD}"),
    "DELETE": (_REMOVED, EMPTIED, _OLD),
}


def upgrade() -> None:
    """Make the sums of the usage that is there, and what keeps them."""
    run = op.get_bind().exec_driver_sql
    run(TABLES)
    run("LOCK TABLE usage IN SHARE ROW EXCLUSIVE MODE")
    run(ADD.format(changed=f"(SELECT 1 AS sign, {_READ} FROM usage)"))
    for event, (changed, emptied, tables) in EVENTS.items():
        name = f"usage_summed_{event.lower()}"
        body = ADD.format(changed=f"({changed})") + emptied
        run(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$")
        run(f"CREATE TRIGGER {name} AFTER {event} ON usage REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()")  # fmt: skip
    run("ANALYZE model_days, user_days")


def downgrade() -> None:
    """Drop them."""
    for event in EVENTS:
        name = f"usage_summed_{event.lower()}"
        op.execute(f"DROP TRIGGER {name} ON usage")
        op.execute(f"DROP FUNCTION {name}()")
    op.execute("DROP TABLE model_days, user_days")
