"""Check of the server: writes and reads a row through the connection pool, with a login that owns a database."""

from __future__ import annotations

import os
import uuid

from pgnode.settings import POOL_PORT, Problem, password, patiently


def main() -> int:
    """Run the check with the database CHECK_DATABASE and the login CHECK_LOGIN."""
    database, login = os.environ["CHECK_DATABASE"], os.environ["CHECK_LOGIN"]
    reached = {"host": os.environ["PGHOST"], "port": POOL_PORT, "user": login, "password": password(login)}
    token = uuid.uuid4().hex
    with patiently(60, database=database, **reached) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE health (token text) ON COMMIT DROP")
            cursor.execute("INSERT INTO health VALUES (%s)", (token,))
            cursor.execute("SELECT token FROM health")
            if cursor.fetchone() != (token,):
                raise Problem("the row that was read differs from the one that was written")
        connection.commit()
    print("a row was written and read")
    return 0
