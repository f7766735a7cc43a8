"""PgBouncer in front of the server: many clients, few connections.

It knows logins by asking the server in its own pod. One elsewhere does not tell passwords: then they are mounted.
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
"""Who signs the certificates of PostgreSQL at RDS."""


def main() -> int:
    """Never returns when all is well: the process becomes PgBouncer.

    POOL_SERVER is host:port of a server elsewhere. Its certificate must name the host and be signed by one of the file
    POOL_AUTHORITIES; without the variable, by Amazon RDS.
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
    """Every mounted login and its password, for PgBouncer alone to read."""
    file.touch(mode=0o600)
    users = sorted(path.name for path in CREDENTIALS.iterdir())
    file.write_text("".join(f'"{user}" "{password(user)}"\n' for user in users))
    return file
