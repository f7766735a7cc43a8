"""Point-in-time restore: requested in a running pod, carried out at the next start.

The previous data is kept next to the new cluster, as `cluster.before-<time>`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from datetime import UTC, datetime

from pgnode.settings import CLUSTER, DATA, REQUEST, Problem, archive, connect, session

SERVER = "main"
"""Name of the server in the object store."""
ACTIVE = DATA / "restore-active.json"
"""File with the running restore. It is kept until the server is promoted."""
ARCHIVED_WITHIN_S = 60


def request(until: str) -> int:
    """Request a restore at the next start. The current log is archived first."""
    moment = _moment(until)
    if moment > datetime.now(UTC):
        raise Problem(f"{until} is in the future")
    if not archive()[1]:
        raise Problem("there are no backups: no object store is configured")
    _find(complete_backups(), moment)
    with session(connect()) as cursor:
        cursor.execute("SELECT pg_walfile_name(pg_switch_wal())")
        wanted = cursor.fetchone()[0]
        deadline = time.monotonic() + ARCHIVED_WITHIN_S
        while True:
            cursor.execute("SELECT last_archived_wal FROM pg_stat_archiver")
            if (cursor.fetchone()[0] or "") >= wanted:
                break
            if time.monotonic() > deadline:
                raise Problem(f"{wanted} was not archived within {ARCHIVED_WITHIN_S} s; nothing was changed")
            time.sleep(0.5)
    REQUEST.write_text(json.dumps({"until": moment.isoformat()}))
    print(f"the next start restores {moment.isoformat()}")
    return 0


def carry_out() -> None:
    """Fetch the last backup before the time. The server then replays the log up to the time."""
    until = json.loads(REQUEST.read_text())["until"]
    options, url = archive()
    chosen = _find(complete_backups(), _moment(until))
    scratch = CLUSTER.with_suffix(".restored")
    shutil.rmtree(scratch, ignore_errors=True)
    command = ["python3", "-m", "barman.clients.cloud_restore", *options, url, SERVER, chosen, str(scratch)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise Problem(f"backup {chosen} could not be fetched: {result.stderr.strip()}")
    scratch.chmod(0o700)
    # Slots in the backup are invalid. Readers of the log create new ones.
    for slot in (scratch / "pg_replslot").iterdir():
        shutil.rmtree(slot)
    (scratch / "recovery.signal").touch()
    ACTIVE.write_text(json.dumps({"until": until}))
    if CLUSTER.exists():
        CLUSTER.rename(DATA / f"cluster.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    scratch.rename(CLUSTER)
    REQUEST.unlink()
    print(f"restored backup {chosen}; the log is replayed up to {until}", flush=True)


def options() -> list[str]:
    """Command line options of the server during the replay."""
    if not (CLUSTER / "recovery.signal").exists():
        ACTIVE.unlink(missing_ok=True)
        return []
    flags, url = archive()
    fetch = shlex.join(["python3", "-m", "barman.clients.cloud_walrestore", *flags, url, SERVER])
    until = json.loads(ACTIVE.read_text())["until"]
    return [
        *("-c", f"restore_command={fetch} %f %p"),
        *("-c", f"recovery_target_time={until}"),
        *("-c", "recovery_target_action=promote"),
        # No connections before the replay has ended: slots that change data capture creates meanwhile become invalid.
        *("-c", "hot_standby=off"),
    ]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise Problem(f'"{text}" is not a time such as 2026-11-24T18:00:00+00:00') from None
    if moment.tzinfo is None:
        raise Problem(f"{text} has no time zone; add Z or +00:00")
    return moment


def complete_backups() -> list[dict[str, str]]:
    """Complete backups in the object store. Raises Problem."""
    flags, url = archive()
    command = ["python3", "-m", "barman.clients.cloud_backup_list", "--format", "json", *flags, url, SERVER]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if result.returncode != 0:
        raise Problem(f"the backups cannot be listed: {result.stderr.strip()}")
    return [b for b in json.loads(result.stdout)["backups_list"] if b.get("status") == "DONE"]


def finished(backup: dict[str, str]) -> datetime:
    """Time at which a backup was complete: the earliest time that it can restore."""
    return datetime.fromisoformat(backup["end_time_iso"]) if "end_time_iso" in backup else _local(backup["end_time"])


def _local(text: str) -> datetime:
    return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)


def _find(backups: list[dict[str, str]], moment: datetime) -> str:
    fitting = [b for b in backups if finished(b) <= moment]
    if not fitting:
        oldest = min((finished(b) for b in backups), default=None)
        known = f"the first backup is from {oldest.isoformat()}" if oldest else "there is no backup yet"
        raise Problem(f"no backup can restore {moment.isoformat()}: {known}")
    return max(fitting, key=finished)["backup_id"]
