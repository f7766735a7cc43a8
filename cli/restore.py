"""`forge restore`: restores PostgreSQL to a point in time. The previous data stays on the volume."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cli.jobs import completed
from local.errors import LocalError

POD, STATEFUL_SET, CAPTURE = "postgres-0", "postgres", "change-data-capture"
_LEFT_RECOVERY = "SELECT NOT pg_is_in_recovery()"


def restore(kubectl: Sequence[str], namespace: str, until: str, say: Callable[[str], None], limit_s: float) -> None:
    """Request the restore in the pod, restart the pod, and wait until the log is replayed. Raises LocalError."""
    base = [*kubectl, "--namespace", namespace]

    asked = completed(base, "exec", POD, "-c", "backups", "--", "python3", "-m", "pgnode", "request-restore", until)
    if asked.returncode != 0:
        lines = asked.stderr.strip().splitlines()
        raise LocalError(
            "PostgreSQL is not restored; nothing was changed",
            reason=next((line for line in lines if line.startswith("request-restore")), "\n".join(lines[-3:])),
            fix="give a time after the first backup and before now, such as 2026-11-24T18:00:00Z",
        )
    say(asked.stdout.strip())
    before = completed(base, "get", "pod", POD, "-o", "jsonpath={.metadata.uid}").stdout
    completed(base, "delete", "pod", POD, "--wait=false")
    say("the server stops; the backup is fetched and the log replayed")
    deadline = time.monotonic() + limit_s
    query = ("exec", POD, "-c", STATEFUL_SET, "--", "psql", "-h", "/run/postgres", "-U", "postgres", "-Atc")
    while time.monotonic() < deadline:
        uid = completed(base, "get", "pod", POD, "-o", "jsonpath={.metadata.uid}").stdout
        if uid not in ("", before) and completed(base, *query, _LEFT_RECOVERY).stdout.strip() == "t":
            # Its saved log position is later than the restored log. It finds a new position when it restarts.
            completed(base, "delete", "pod", "--selector", f"app.kubernetes.io/name={CAPTURE}", "--wait=false")
            return
        time.sleep(1)
    raise LocalError(
        f"PostgreSQL does not answer {limit_s:.0f} s after its restore began",
        fix=f"see `kubectl logs -n {namespace} {POD} -c postgres`; the previous data is at /data",
    )
