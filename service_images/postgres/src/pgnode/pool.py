"""PgBouncer, the connection pool in front of the server.

It reads logins from the server in its own pod. A managed server does not reveal password hashes, so passwords are
mounted instead.

With the secret store, each pod of a service has a login of its own, so the limit of server connections is one of the
database, too. Idle connections of a replaced login make room for those of the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

from pgnode.settings import CREDENTIALS, POOL_PORT, PORT, SOCKETS, SUPERUSER, password, patiently

CONFIG = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = *
listen_port = {pool_port}
unix_socket_dir =
auth_type = scram-sha-256
{logins}
pool_mode = transaction
max_client_conn = {clients}
default_pool_size = {size}
max_db_connections = {size}
ignore_startup_parameters = extra_float_digits,options
server_reset_query = DISCARD ALL
log_connections = 0
log_disconnections = 0
"""


ASKING = f"""\
auth_user = {SUPERUSER}
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1 AND NOT usesuper AND NOT userepl"""
LISTED = """\
auth_file = {file}
server_tls_sslmode = verify-full
server_tls_ca_file = {authorities}"""
AUTHORITIES = Path(__file__).with_name("rds_authorities.pem")
"""File with the CA certificates of Amazon RDS."""


def main() -> int:
    """Replace this process by PgBouncer. Returns only after an error.

    POOL_SERVER is host:port of a server outside the pod. Its certificate must name the host, and a CA in the file
    POOL_AUTHORITIES must have signed it. The default are the CAs of Amazon RDS.
    """
    size, clients = os.environ.get("POOL_SIZE", "10"), os.environ.get("POOL_CLIENTS", "500")
    host, server_port, logins = SOCKETS, str(PORT), ASKING
    if server := os.environ.get("POOL_SERVER"):
        host, _, server_port = server.rpartition(":")
        authorities = os.environ.get("POOL_AUTHORITIES", str(AUTHORITIES))
        logins = LISTED.format(file=_listed(Path("/tmp/logins")), authorities=authorities)
    else:
        patiently(120).close()
    file = Path("/tmp/pgbouncer.ini")
    file.write_text(
        CONFIG.format(host=host, port=server_port, pool_port=POOL_PORT, logins=logins, clients=clients, size=size)
    )
    os.execv("/usr/sbin/pgbouncer", ["/usr/sbin/pgbouncer", str(file)])


def _listed(file: Path) -> Path:
    """Write all mounted logins with their passwords to a file that only PgBouncer can read."""
    file.touch(mode=0o600)
    users = sorted(path.name for path in CREDENTIALS.iterdir())
    file.write_text("".join(f'"{user}" "{password(user)}"\n' for user in users))
    return file
