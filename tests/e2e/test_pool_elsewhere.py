"""The pool in front of a PostgreSQL that is elsewhere, as with RDS: it knows
logins from files, and the server from its certificate.

The server in the pod has no TLS; what ends it here is a second PgBouncer, so that the protocol is PostgreSQL's own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.config.data import Data, Postgres
from components.data.needs import databases
from components.data.postgres_cluster import pool_process
from components.services.registry import SERVICES
from local.images import pipeline
from local.node.pki import Authority
from tests.e2e.data_client import LABELS, RESTRICTED, DataClient

pytestmark = pytest.mark.drill("pools")
NAME, TLS_PORT = "pool-elsewhere", 6433
ENDS_TLS = f"""\
[databases]
* = host=postgres port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {TLS_PORT}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = /etc/ends-tls/users
client_tls_sslmode = require
client_tls_key_file = /etc/ends-tls/tls.key
client_tls_cert_file = /etc/ends-tls/tls.crt
pool_mode = transaction
ignore_startup_parameters = extra_float_digits,options
"""
POOLED = [database["name"] for database in databases(Data(), SERVICES) if database["name"] in SERVICES]
"""Owners of databases. They never log in in this environment, whose secret store issues logins."""
_OWNER = """
from psycopg import sql
with postgres("postgres", port=5432) as connection:
    for login, password in logins.items():
        connection.execute(sql.SQL(CHANGE).format(sql.Identifier(login), sql.Literal(password)))
print("true")
"""
SET_PASSWORDS = f"CHANGE = 'ALTER ROLE {{}} LOGIN PASSWORD {{}}'{_OWNER}"
TAKE_PASSWORDS = f"CHANGE = 'ALTER ROLE {{}} NOLOGIN PASSWORD NULL'{_OWNER}"
SPEAKS = """
import psycopg
address = f"host={host} port=6432 connect_timeout=5"
found = {}
for login in logins:
    with psycopg.connect(address, user=login, password=logins[login], dbname=login) as connection:
        found[login] = connection.execute("SELECT current_user").fetchone()[0]
print(json.dumps(found))
"""
WRONG = """
import psycopg
try: psycopg.connect(host=host, port=6432, user="audit", password="wrong", dbname="audit", connect_timeout=5)
except psycopg.OperationalError as error: print(json.dumps(str(error)))
"""


def _definition(data: DataClient) -> dict[str, Any]:
    """The component's own process with its mounts, beside the TLS proxy."""
    image = pipeline.read_index()["postgres"].reference
    process = pool_process(Postgres(), image, f"127.0.0.1:{TLS_PORT}")
    known = {**process.environment, "POOL_AUTHORITIES": "/etc/ends-tls/ca.crt"}
    environment = [{"name": name, "value": value} for name, value in known.items()]
    logins: list[dict[str, Any]] = [
        {
            "name": "ends-tls",
            "mountPath": f"/etc/credentials/{user}/postgres",
            "subPath": f"password-{user}",
            "readOnly": True,
        }
        for user in POOLED
    ]
    secure = {**RESTRICTED, "readOnlyRootFilesystem": True}
    tmp = {"name": "tmp", "mountPath": "/tmp"}
    pool: dict[str, Any] = {
        "name": process.name,
        "image": image,
        "args": list(process.arguments),
        "env": environment,
        "readinessProbe": {"tcpSocket": {"port": process.ports["pool"]}, "periodSeconds": 1},
        "securityContext": secure,
        "volumeMounts": [*logins, {"name": "ends-tls", "mountPath": "/etc/ends-tls"}, tmp],
    }
    ends: dict[str, Any] = {
        "name": "ends-tls",
        "image": image,
        "command": ["/usr/sbin/pgbouncer", "/etc/ends-tls/pgbouncer.ini"],
        "securityContext": secure,
        "volumeMounts": [{"name": "ends-tls", "mountPath": "/etc/ends-tls"}, tmp],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "ends-tls", "secret": {"secretName": NAME}},
        {"name": "tmp", "emptyDir": {}},
    ]
    spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": data.namespace, "labels": LABELS},
        "spec": {**spec, "containers": [pool, ends], "volumes": volumes},
    }


def _secret(data: DataClient, passwords: dict[str, str], folder: Path) -> dict[str, Any]:
    """The pool's logins; the TLS proxy's settings, certificate and allowed clients."""
    authority = Authority(folder, "authority")
    authority.issue("tls", "postgres", hosts=["127.0.0.1"])
    files = {
        "pgbouncer.ini": ENDS_TLS,
        "users": "".join(f'"{user}" "{password}"\n' for user, password in passwords.items()),
        "tls.crt": (folder / "tls.crt").read_text(),
        "tls.key": (folder / "tls.key").read_text(),
        "ca.crt": authority.certificate_file.read_text(),
        **{f"password-{user}": password for user, password in passwords.items()},
    }
    meta = {"name": NAME, "namespace": data.namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": files}


@pytest.fixture(scope="module")
def passwords(data: DataClient) -> Iterator[dict[str, str]]:
    """A password for each login of the pool, which the server knows, too. With a secret store, none has one."""
    made = {login: secrets.token_hex(16) for login in POOLED}
    data.run(SET_PASSWORDS, logins=made)
    yield made
    data.run(TAKE_PASSWORDS, logins=made)


@pytest.fixture(scope="module")
def address(data: DataClient, passwords: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """IP address of the pool's ready pod, which is deleted at the end."""
    made = [_secret(data, passwords, tmp_path_factory.mktemp("tls")), _definition(data)]
    try:
        for definition in made:
            result = data.kubectl("apply", "-f", "-", stdin=json.dumps(definition))
            assert result.returncode == 0, result.stderr
        waited = data.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
        assert waited.returncode == 0, waited.stderr
        yield data.kubectl("get", "pod", NAME, "-o", "jsonpath={.status.podIP}").stdout
    finally:
        data.kubectl("delete", f"pod/{NAME}", f"secret/{NAME}", "--ignore-not-found", "--wait=false")


def test_every_login_comes_through_to_its_database(data: DataClient, passwords: dict[str, str], address: str) -> None:
    assert data.run(SPEAKS, host=address, logins=passwords) == {login: login for login in POOLED}


def test_a_wrong_password_does_not(data: DataClient, address: str) -> None:
    assert "authentication failed" in data.run(WRONG, host=address)


def test_the_proxy_refuses_connections_without_tls(data: DataClient, address: str) -> None:
    """So the connection of the pool was encrypted."""
    exec_in_pool = ["exec", "-i", NAME, "-c", "pool", "--", "python3", "-c"]
    script = (
        "import socket, struct\n"
        f"server = socket.create_connection(('127.0.0.1', {TLS_PORT}), 5)\n"
        "said = b'user\\0audit\\0database\\0audit\\0\\0'\n"
        "server.sendall(struct.pack('!ii', len(said) + 8, 196608) + said)\n"
        "print(server.recv(1000))"
    )
    assert "SSL required" in data.kubectl(*exec_in_pool, script).stdout
