"""Prometheus and `promtool` for tests, from Debian's package, which is unpacked and not installed."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

from local import paths
from local.errors import LocalError

_PACKAGE = "prometheus"


def resolve() -> Path:
    """Path of `promtool`, beside `prometheus`, in the version of the machine's package sources. Raises LocalError."""
    folder = paths.cache() / "tools"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "promtool.lock"):
        if not (version := _candidate()):
            _run("apt-get", "update", "-qq")
            version = _candidate()
        target = folder / f"prometheus-{version}"
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _run("apt-get", "download", "-qq", f"{_PACKAGE}={version}", folder=scratch)
                (package,) = Path(scratch).glob("*.deb")
                _run("dpkg-deb", "--extract", str(package), scratch)
                (Path(scratch) / "usr/bin").replace(target)
    return target / "promtool"


def _candidate() -> str:
    shown = _run("apt-cache", "show", "--no-all-versions", _PACKAGE, may_fail=True)
    return next((line.removeprefix("Version: ") for line in shown.splitlines() if line.startswith("Version: ")), "")


def _run(*command: str, folder: str = "/", may_fail: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode != 0 and not may_fail:
        reason = "\n       ".join(done.stderr.strip().splitlines()[-4:])
        raise LocalError(f"Debian's package {_PACKAGE} could not be fetched", reason=reason)
    return done.stdout
