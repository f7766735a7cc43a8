"""Creates the data directory at the first start, restores it if requested, and starts the server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from pgnode import restore
from pgnode.settings import BIN, CLUSTER, PORT, REQUEST, SOCKETS, SUPERUSER, Problem, password

CONFIG = Path("/etc/postgres/postgresql.conf")
HBA = """\
# Inside the pod the pods' own user is the superuser; everybody else shows a password.
local all postgres peer
local all all scram-sha-256
local replication postgres peer
# "replication" stands for copies of the whole server, which nobody takes over the network. Reading the log of one
# database is a connection to that database, for which a login needs the attribute REPLICATION besides.
host replication all all reject
host all all all scram-sha-256
"""


def main() -> int:
    """Replace this process by the server. Returns only after an error."""
    if REQUEST.exists():
        restore.carry_out()
    if not CLUSTER.exists():
        _make()
    hba = CLUSTER / "pg_hba.conf"
    hba.write_text(HBA)
    # A killed server leaves its lock file. No other server can run on this volume.
    (CLUSTER / "postmaster.pid").unlink(missing_ok=True)
    command = [str(BIN / "postgres"), "-D", str(CLUSTER), "-c", f"config_file={CONFIG}", "-c", f"hba_file={hba}"]
    command += ["-c", f"port={PORT}", "-c", f"unix_socket_directories={SOCKETS}", *restore.options()]
    os.execv(command[0], command)


def _make() -> None:
    scratch = CLUSTER.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(password(SUPERUSER))
        secret.flush()
        command = [str(BIN / "initdb"), "-D", str(scratch), "-U", SUPERUSER, f"--pwfile={secret.name}"]
        command += ["--auth-host=scram-sha-256", "--auth-local=peer", "--encoding=UTF8", "--locale=C.UTF-8"]
        result = subprocess.run([*command, "--data-checksums"], capture_output=True, text=True)
    if result.returncode != 0:
        raise Problem(f"initdb: {result.stderr.strip()}")
    scratch.rename(CLUSTER)
    print("created an empty cluster", flush=True)
