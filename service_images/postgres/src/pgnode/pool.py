"""PgBouncer in front of the server: many clients, few connections. It knows logins by asking the server."""

from __future__ import annotations

import os
from pathlib import Path

from pgnode.settings import POOL_PORT, PORT, SOCKETS, SUPERUSER, patiently

CONFIG = """\
[databases]
* = host={sockets} port={port}
[pgbouncer]
listen_addr = *
listen_port = {pool_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_user = {user}
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1 AND NOT usesuper AND NOT userepl
pool_mode = transaction
max_client_conn = {clients}
default_pool_size = {size}
ignore_startup_parameters = extra_float_digits,options
server_reset_query = DISCARD ALL
log_connections = 0
log_disconnections = 0
"""


def main() -> int:
    """Never returns when all is well: the process becomes PgBouncer."""
    patiently(120).close()
    size, clients = os.environ.get("POOL_SIZE", "10"), os.environ.get("POOL_CLIENTS", "500")
    file = Path("/tmp/pgbouncer.ini")
    file.write_text(
        CONFIG.format(sockets=SOCKETS, port=PORT, pool_port=POOL_PORT, user=SUPERUSER, clients=clients, size=size)
    )
    os.execv("/usr/sbin/pgbouncer", ["/usr/sbin/pgbouncer", str(file)])
