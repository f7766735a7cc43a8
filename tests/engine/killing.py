"""Variants of the stand-ins for kubernetes and aws that exit before or after each of their writes, once for each.

`KILLED` names a file: one line for each moment at which it has killed already. `KILL_WHOM` says what dies with it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from local.providers.aws import provider as aws
from local.providers.aws.account import Account
from local.providers.kubernetes import ownership, provider
from local.providers.kubernetes.cluster import Cluster, Object
from local.providers.server import serve


class KillingCluster(Cluster):
    """Exits before or after writes."""

    def apply(self, manifest: Object, *, dry_run: bool = False, force: bool = True) -> Object:
        """Apply, and exit."""
        if dry_run:
            return super().apply(manifest, dry_run=True, force=force)
        what = f"apply {manifest['metadata']['annotations'][ownership.URN]}"
        _die(f"before {what}")
        live = super().apply(manifest, force=force)
        _die(f"after {what}")
        return live

    def delete(self, api_version: str, kind: str, namespace: str | None, name: str, propagation: str) -> None:
        """Delete, and exit."""
        _die(f"before delete {kind} {name}")
        super().delete(api_version, kind, namespace, name, propagation)
        _die(f"after delete {kind} {name}")


def _die(moment: str) -> None:
    file = Path(os.environ["KILLED"])
    if not moment.startswith(tuple(os.environ.get("MOMENTS", "before after").split())):
        return
    line = f"{os.environ.get('PHASE', '')} {moment}\n"
    if file.exists() and line in file.read_text().splitlines(keepends=True):
        return
    with file.open("a") as log:
        log.write(line)
        log.flush()
        os.fsync(log.fileno())
    if os.environ["KILL_WHOM"] == "none":
        return
    if os.environ["KILL_WHOM"] != "plugin":
        os.kill(os.getppid(), signal.SIGKILL)
    if os.environ["KILL_WHOM"] != "engine":
        os._exit(9)


class KillingAccount(Account):
    """Exits before or after changes of the simulated account."""

    def put(self, kind: str, identity: str, properties: dict[str, Any], *, new: bool = False, token: str = "") -> None:
        """Create or change, and exit."""
        what = f"put {kind} {token or identity}"
        _die(f"before {what}")
        super().put(kind, identity, properties, new=new, token=token)
        _die(f"after {what}")

    def remove(self, kind: str, identity: str) -> None:
        """Remove, and exit."""
        _die(f"before remove {kind} {identity}")
        super().remove(kind, identity)
        _die(f"after remove {kind} {identity}")


def main() -> None:
    """Serve until the exit is due."""
    if sys.argv.pop(1) == "aws":  # the other arguments are the engine's
        aws.Account = KillingAccount  # pyright: ignore[reportAttributeAccessIssue]
        serve(aws.Aws())
    else:
        provider.Cluster = KillingCluster  # pyright: ignore[reportAttributeAccessIssue]
        serve(provider.Kubernetes())


if __name__ == "__main__":
    main()
