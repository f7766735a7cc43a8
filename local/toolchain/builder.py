"""Finds each tool: on PATH in its pinned version, otherwise in the cache, otherwise built from source."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from local import paths
from local.errors import LocalError
from local.toolchain.tools import TOOLS, Tool, ToolName, go_version

BUILD_DISK_BYTES = 6 * 1024**3
"""Free space in bytes for a build of all tools from nothing: Go build cache 4.4 GiB plus binaries, measured 2026-11."""


@dataclass(frozen=True)
class Progress:
    """Progress report of a running build."""

    tool: Tool
    packages_done: int
    packages_total: int
    elapsed_s: float
    note: str = ""


Report = Callable[[Progress], None]


def _ignore(_: Progress) -> None:
    return None


def cached_path(tool: Tool) -> Path:
    """Path of this tool in the cache, for its current pin."""
    return paths.cache() / "tools" / f"{tool.name}-{tool.key()}" / tool.name


def on_path(tool: Tool) -> Path | None:
    """Path of the user's own copy, if it has the pinned version, or None. `pulumi` shims of checkouts do not count."""
    if not tool.version_command:
        return None
    folders = [f for f in os.environ.get("PATH", "").split(os.pathsep) if f]
    candidates = (shutil.which(tool.name, path=folder) for folder in folders)
    found = next((c for c in candidates if c and not _is_shim(Path(c))), None)
    if found is None:
        return None
    try:
        result = subprocess.run([found, *tool.version_command], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = (result.stdout + result.stderr).split()
    return Path(found) if {tool.version, tool.version.removeprefix("v")} & set(words) else None


def _is_shim(program: Path) -> bool:
    """Whether the program is a checkout's `pulumi` shim. Asking a shim for its version would recurse without end."""
    try:
        with program.open("rb") as file:
            return b"toolchain.shim" in file.read(2048)
    except OSError:
        return False


def resolve(name: ToolName, report: Report = _ignore) -> Path:
    """Path of a tool. It is built if necessary.

    Raises LocalError with the tool, the reason and the fix if it cannot be built.
    """
    tool = TOOLS[name]
    if found := on_path(tool):
        return found
    target = cached_path(tool)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(tool, target, report):
        if not target.exists():  # another run may have built it meanwhile
            _build(tool, target, report)
    return target


def resolve_all(names: Iterable[ToolName] | None = None, report: Report = _ignore) -> dict[ToolName, Path]:
    """Paths of the tools `names` (default: those that `forge up` needs), in build order."""
    wanted = [t.name for t in TOOLS.values() if not t.for_tests] if names is None else names
    return {name: resolve(name, report) for name in wanted}


@contextlib.contextmanager
def _exclusive(tool: Tool, target: Path, report: Report):
    """Lock for the build of a tool. A second run waits, and then finds the built tool."""
    lock = FileLock(target.parent.with_suffix(".lock"))
    started = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=2)
            break
        except Timeout:
            report(Progress(tool, 0, 0, time.monotonic() - started, "waiting for another run that is building it"))
    try:
        yield
    finally:
        lock.release()


def _environment() -> dict[str, str]:
    env = dict(os.environ)
    env.update(CGO_ENABLED="0", GOFLAGS="-mod=readonly -trimpath")
    return env


def _check_disk(target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < BUILD_DISK_BYTES:
        raise LocalError(
            f"the disk of {target.parent} is nearly full",
            reason=f"{free / 1024**3:.1f} GiB free, {BUILD_DISK_BYTES / 1024**3:.0f} GiB needed to build the tools",
            fix="free some space, or set COGNIFORGE_CACHE and GOCACHE to folders on a larger disk",
        )


def _build(tool: Tool, target: Path, report: Report) -> None:
    go_version()  # raises an error with a fix if there is no compiler
    _check_disk(target)
    env = _environment()
    report(Progress(tool, 0, 0, 0.0, "fetching modules"))
    listing = subprocess.run(
        ["go", "list", "-deps", f"-tags={tool.build_tags}", tool.package],
        cwd=tool.folder,
        env=env,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        raise _failure(tool, listing.stderr)
    total = len(listing.stdout.splitlines())
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        output = Path(scratch) / tool.name
        command = ["go", "build", "-v", f"-tags={tool.build_tags}", f"-ldflags={tool.ldflags}", "-o", str(output)]
        _run_build(tool, [*command, tool.package], env, total, report)
        for file in tool.files:
            beside = target.parent / Path(file).name
            shutil.copyfile(_module(tool, env) / file, beside)
            beside.chmod(0o644)  # the module cache is read-only
        output.replace(target)  # atomic: an interrupted build leaves no half-written tool


def _module(tool: Tool, env: dict[str, str]) -> Path:
    """Folder of the tool's pinned module in Go's module cache."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", tool.pin]
    result = subprocess.run(command, cwd=tool.folder, env=env, capture_output=True, text=True)
    if result.returncode != 0:
        raise _failure(tool, result.stderr)
    return Path(result.stdout.strip())


def _run_build(tool: Tool, command: list[str], env: dict[str, str], total: int, report: Report) -> None:
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=tool.folder, env=env, stderr=subprocess.PIPE, text=True)
    lines: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")), daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            report(Progress(tool, len(lines), total, time.monotonic() - started))
            time.sleep(0.5)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    reader.join()
    if process.returncode != 0:
        raise _failure(tool, "".join(line for line in lines if not _is_package_name(line)))
    report(Progress(tool, total, total, time.monotonic() - started, "done"))


def _is_package_name(line: str) -> bool:
    """Whether a line of `go build -v` is an import path. All other lines are messages."""
    return " " not in line.strip() and not line.startswith("#")


_CAUSES = (
    (("no space left",), "free some space on the disk, then run the same command again"),
    (
        ("signal: killed", "cannot allocate memory"),
        "the build needs about 3 GiB of free memory: close other programs",
    ),
    (
        (
            "dial tcp",
            "connection refused",
            "no such host",
            "i/o timeout",
            "TLS handshake",
            "Forbidden",
            "module lookup disabled",
        ),
        "no Go module registry answered: check the network and `go env GOPROXY`, then run the same command again",
    ),
    (
        ("checksum mismatch",),
        "a module differs from go.sum: clear it with `go clean -modcache` and try again",
    ),
)


def fix_of(output: str) -> str:
    """What to do about an error message of Go; empty where the message is of no known kind."""
    return next((fix for marks, fix in _CAUSES if any(mark in output for mark in marks)), "")


def _failure(tool: Tool, output: str) -> LocalError:
    reason = "\n       ".join(output.strip().splitlines()[-12:])
    fix = fix_of(output)
    return LocalError(
        f"{tool.title} {tool.version} could not be built",
        reason=reason or "the Go compiler gave no reason",
        fix=fix or f"see the message above; to try by hand: cd {tool.folder} && go build {tool.package}",
    )
