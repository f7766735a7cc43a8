"""`forge doctor`: checks what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass

import psutil

from cli import documents
from local import paths
from local.errors import LocalError
from local.images import engine
from local.node import preflight, settings
from local.node.node import Node
from local.toolchain import builder, packages, tools


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    what: str
    ok: bool
    found: str
    fix: str = ""
    required: bool = True


def _go() -> Finding:
    try:
        return Finding("Go", True, tools.go_version())
    except LocalError as error:
        if _all_cached():
            return Finding("Go", True, "not on PATH; every tool is cached", required=False)
        return Finding("Go", False, error.reason or error.problem, error.fix)


def _all_cached() -> bool:
    try:
        return all(builder.cached_path(tool).exists() for tool in tools.TOOLS.values() if not tool.for_tests)
    except LocalError:  # without Go, and before the first build
        return False


def _disk() -> Finding:
    folder = next(p for p in (paths.state(), *paths.state().parents) if p.exists())
    free = shutil.disk_usage(folder).free
    ok = free >= builder.BUILD_DISK_BYTES
    return Finding(
        "disk", ok, f"{free / 2**30:.0f} GiB free", "free space, or set COGNIFORGE_HOME and COGNIFORGE_CACHE"
    )


def _tools() -> list[Finding]:
    found: list[Finding] = []
    for tool in (t for t in tools.TOOLS.values() if not t.for_tests):
        if own := builder.on_path(tool):
            where = f"{tool.version}, your own at {own}"
        elif builder.cached_path(tool).exists():
            where = f"{tool.version}, cached"
        else:
            where = f"{tool.version}, will be built (about {tool.expected_s} s)"
        found.append(Finding(tool.title, True, where, required=False))
    return found


def _ports() -> list[Finding]:
    running = any(p.running() for p in Node().processes())
    if running:
        return [Finding("ports", True, "in use by the running node")]
    ports = {**settings.LOOPBACK_PORTS, settings.GATEWAY_PORT: "the gateway"}
    lines = preflight.taken_ports(ports)
    return [Finding("ports", not lines, "; ".join(lines) or "free", "stop those programs")]


def findings() -> list[Finding]:
    """Check everything that `forge up` needs. Changes nothing."""
    missing = packages.missing()
    install = f"`forge up` installs them (apt-get install {' '.join(missing)})"
    memory = psutil.virtual_memory().available
    result = [
        Finding("Python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer"),
        _go(),
        Finding("root", os.geteuid() == 0, f"uid {os.geteuid()}", "run as root: sudo -E make up"),
        Finding(
            "Debian packages",
            not missing,
            "all installed" if not missing else f"missing: {', '.join(missing)}",
            install,
        ),
        _disk(),
        Finding(
            "memory",
            memory >= settings.MEMORY_FLOOR_BYTES,
            f"{memory / 2**30:.1f} GiB available",
            "use a larger machine",
        ),
        Finding("image builder", True, engine.choose().name, required=False),
    ]
    try:
        result += [*_ports(), *_tools()]
    except LocalError as error:
        result.append(Finding("tools", False, error.problem, error.fix))
    return result


@dataclass(frozen=True)
class Way:
    """A way to run the platform from this machine."""

    name: str
    possible: bool
    what: str
    """What is missing, or the command that starts it."""


def ways(found: list[Finding]) -> list[Way]:
    """The two ways: the local node, which needs root on Debian, or an existing cluster, with images built by Docker."""
    # `forge up` installs missing packages.
    missing = [f.what for f in found if f.required and not f.ok and f.what != "Debian packages"]
    if not sys.platform.startswith("linux") or shutil.which("apt-get") is None:
        missing.append("Debian")
    node = Way(
        "local node", not missing, f"lacks: {', '.join(missing)}" if missing else "`forge up` starts it on this machine"
    )
    lacks = [f.what for f in found if f.required and not f.ok and f.what in ("Python", "Go", "disk")]
    # On Debian with root, buildah replaces Docker.
    if not engine.docker_runs() and (os.geteuid() != 0 or shutil.which("buildah") is None):
        lacks.append("Docker")
    if not (contexts := _contexts()):
        lacks.append("a cluster in your kubeconfig (kind, k3d, minikube)")
    how = f"`forge init NAME --on existing --build`; contexts: {', '.join(contexts)}"
    return [node, Way("existing cluster", not lacks, f"lacks: {', '.join(lacks)}" if lacks else how)]


def _contexts() -> list[str]:
    from kubernetes import config

    try:
        return sorted(context["name"] for context in config.list_kube_config_contexts()[0])
    except (config.ConfigException, OSError):
        return []


def document(found: list[Finding], possible: list[Way]) -> documents.Doctor:
    """The findings as a JSON document."""
    ready = any(way.possible for way in possible)
    checks = [
        documents.CheckedThing(name=f.what, ok=f.ok, required=f.required, found=f.found, fix="" if f.ok else f.fix)
        for f in found
    ]
    shown = [documents.WayToRun(name=w.name, possible=w.possible, what=w.what) for w in possible]
    return documents.Doctor(ready=ready, ways=shown, checks=checks)
