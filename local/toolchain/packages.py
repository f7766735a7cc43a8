"""Debian packages of the local environment: finds missing ones and installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from local.errors import LocalError

PACKAGES: dict[str, str] = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "nftables": "nft",
    "iptables": "iptables",
    "ipset": "ipset",
    "iproute2": "ip",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "maven": "mvn",
}
"""Program that shows whether a package is installed, by package."""
OF_TESTS: Mapping[str, str] = {"chromium": "chromium", "npm": "npm"}
"""The same for packages that only some drills need."""


def _present(program: str) -> bool:
    path = "/usr/sbin:/sbin:" + os.environ.get("PATH", "")
    return Path(program).exists() if program.startswith("/") else shutil.which(program, path=path) is not None


def missing(wanted: Mapping[str, str] = PACKAGES) -> list[str]:
    """Packages whose programs are not installed."""
    return [package for package, program in wanted.items() if not _present(program)]


def is_debian() -> bool:
    """Whether this machine has apt (Debian and its derivatives)."""
    return shutil.which("apt-get") is not None


def require_root() -> None:
    """Raise LocalError unless the user is root."""
    if os.geteuid() != 0:
        raise LocalError(
            "the local environment needs root",
            reason="it runs containerd and the kubelet, and creates network links and mounts",
            fix="run the same command as root: sudo -E make up",
        )


def install(wanted: Mapping[str, str] = PACKAGES) -> list[str]:
    """Install missing packages. Returns their names. Raises LocalError if the installation fails."""
    names = missing(wanted)
    if not names:
        return []
    command = f"apt-get install -y {' '.join(names)}"
    if not is_debian():
        programs = ", ".join(wanted[name] for name in names)
        raise LocalError(
            f"these programs are missing: {programs}",
            reason="this machine does not run Debian or a derivative, so `forge` cannot install them",
            fix=f"install them with your package manager (Debian calls the packages {', '.join(names)})",
        )
    require_root()
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for step in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names],
    ):
        result = subprocess.run(step, env=env, capture_output=True, text=True)
        if result.returncode != 0 and step[1] == "install":
            raise LocalError(
                f"these packages could not be installed: {', '.join(names)}",
                reason="\n       ".join(result.stderr.strip().splitlines()[-6:]),
                fix=f"check the network and the package sources in /etc/apt, then run: {command}",
            )
    return names
