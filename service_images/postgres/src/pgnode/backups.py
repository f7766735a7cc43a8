"""Takes base backups on schedule and deletes expired ones. The server itself archives the write-ahead log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

from pgnode import restore
from pgnode.settings import SOCKETS, SUPERUSER, Problem, archive, connect, session

LOOK_EVERY_S = 10
LIST_EVERY = timedelta(hours=1)
"""Age at which the list of backups is read again, since somebody may have deleted one. Reading it starts a program that
needs half a second of CPU time."""


def main() -> int:
    """Run until stopped. Failures are reported and retried."""
    # Process 1 of a container only receives signals that it handles. An interrupted backup is incomplete and ignored.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    every = timedelta(hours=float(os.environ.get("BACKUP_EVERY_HOURS", "24")))
    keep_days = int(os.environ.get("BACKUP_KEEP_DAYS", "7"))
    done_timeline, newest, read = 0, None, datetime.min.replace(tzinfo=UTC)
    while True:
        try:
            timeline, now = _timeline(), datetime.now(UTC)
            # After a restore, old backups belong to the old timeline. A new backup makes the next restore fast.
            restored = bool(done_timeline) and timeline != done_timeline
            if newest is None or now - newest >= every or now - read >= LIST_EVERY:
                newest, read = max((restore.finished(b) for b in restore.complete_backups()), default=None), now
            if newest is None or now - newest >= every or restored:
                newest = None  # read again, whether it succeeds or not
                _take()
                _drop(keep_days)
            done_timeline = timeline
        except Problem as problem:
            print(f"backups: {problem}", file=sys.stderr, flush=True)
        time.sleep(LOOK_EVERY_S)


def _timeline() -> int:
    try:
        with session(connect()) as cursor:
            cursor.execute("SELECT timeline_id, pg_is_in_recovery() FROM pg_control_checkpoint()")
            timeline, recovering = cursor.fetchone()
    except Exception as error:
        raise Problem(f"the server does not answer: {error}") from None
    if recovering:
        raise Problem("the server is still replaying its log")
    return timeline


def _run(program: str, *arguments: str) -> None:
    options, url = archive()
    command = ["python3", "-m", f"barman.clients.{program}", *options, *arguments, url, restore.SERVER]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise Problem(f"{program}: {result.stderr.strip()}")


def _take() -> None:
    _run("cloud_backup", "--gzip", "--immediate-checkpoint", "-h", SOCKETS, "-U", SUPERUSER, "-d", "postgres")
    print("took a backup", flush=True)


def _drop(keep_days: int) -> None:
    _run("cloud_backup_delete", "--retention-policy", f"RECOVERY WINDOW OF {keep_days} DAYS")
