"""Traces that a node could leave on a machine."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from local.node import network

_BEFORE = Path(tempfile.gettempdir()) / "cogniforge-machine-before.json"


def keep(found: dict[str, list[str]] | None) -> None:
    """Record the state of the machine before the first `forge up`; None if it is too late."""
    _BEFORE.unlink(missing_ok=True)
    if found is not None:
        _BEFORE.write_text(json.dumps(found))


def before() -> dict[str, list[str]] | None:
    """The recorded state."""
    return json.loads(_BEFORE.read_text()) if _BEFORE.exists() else None


def snapshot() -> dict[str, list[str]]:
    """Rules, mounts, links, control groups, processes and files."""
    run = network.run
    rules = json.loads(run("nft", "--json", "list", "tables", check=False) or '{"nftables": []}')["nftables"]
    tables = [f"{r['table']['family']} {r['table']['name']}" for r in rules if "table" in r]
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    links = [p.name for p in Path("/sys/class/net").iterdir()]
    groups = [str(p) for p in Path("/sys/fs/cgroup").rglob("*kubepods*")]
    processes = [
        Path(p, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for p in map(str, Path("/proc").glob("[0-9]*"))
        if Path(p, "cmdline").exists()
    ]
    ours = [
        c
        for c in processes
        if any(m in c for m in ("kube-", "kubelet", "etcd", "containerd", "docker-registry", "/pause"))
    ]
    files = [str(p) for folder in network.SHARED_FOLDERS for p in folder.rglob("*")]
    return {
        "tables": sorted(tables),
        "mounts": sorted(mounts),
        "links": sorted(links),
        "cgroups": sorted(groups),
        "processes": sorted(c for c in ours if "pytest" not in c),
        "files": sorted(files),
        "forward": [Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()],
    }
