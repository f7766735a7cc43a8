"""Searches for the values of secrets where none may be: in files, and in arguments and environments of processes."""

from __future__ import annotations

import base64
import mmap
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from kubernetes import client

SHORTEST = 12
"""Bytes. A shorter value, such as a port, would be found by chance."""
_CERTIFICATES = ("ca.crt", "tls.crt")
_PUBLIC = frozenset(("bootstrap.kubernetes.io/token", "helm.sh/release.v1"))


def values(core: client.CoreV1Api) -> dict[str, bytes]:
    """The value of each entry of each Secret in the cluster, by its name. Certificates are not secret."""
    found: dict[str, bytes] = {}
    for secret in core.list_secret_for_all_namespaces().items:
        if secret.type in _PUBLIC:
            continue
        for entry, text in (secret.data or {}).items():
            value = base64.b64decode(text).strip()
            if entry not in _CERTIFICATES and len(value) >= SHORTEST:
                found[f"{secret.metadata.namespace}/{secret.metadata.name}/{entry}"] = value
    return found


def in_files(secrets: Mapping[str, bytes], *roots: Path) -> list[str]:
    """Which secrets stand in which file below these folders, as they are or in Base64."""
    found: list[str] = []
    forms = {name: (value, base64.b64encode(value)) for name, value in secrets.items()}
    for file in _files(roots):
        try:
            with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found += [
                    f"{name} in {file}"
                    for name, written in forms.items()
                    if any(content.find(form) >= 0 for form in written)
                ]
        except (OSError, ValueError):  # a file that has gone, or an empty one
            continue
    return found


def _files(roots: tuple[Path, ...]) -> Iterator[Path]:
    for root in roots:
        yield from (file for file in ([root] if root.is_file() else root.rglob("*")) if file.is_file())


def in_many_files(secrets: Mapping[str, bytes], root: Path) -> list[str]:
    """The same for a folder with gigabytes of files, which grep reads once for all secrets."""
    lines = {max(form.split(b"\n"), key=len) for value in secrets.values() for form in (value, base64.b64encode(value))}
    command = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--null", "--file=-", "."]
    result = subprocess.run(command, input=b"\n".join(lines), cwd=root, capture_output=True)
    assert result.returncode in (0, 1, 2), result.stderr  # 2: some file went away, or could not be read
    return in_files(secrets, *(root / name.decode() for name in result.stdout.split(b"\0") if name))


def machine(folders: Mapping[str, Path]) -> dict[str, bytes]:
    """The private keys and passwords in files of this machine, by their names."""
    return {
        f"{title}/{file.name}": file.read_bytes().strip()
        for title, folder in folders.items()
        for file in sorted(folder.iterdir())
        if file.suffix in (".key", ".password")
    }


def in_arguments(secrets: Mapping[str, bytes]) -> list[str]:
    """Which secrets stand in the arguments of which process of this machine."""
    found: list[str] = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = "\0".join(process.info["cmdline"] or []).encode(errors="surrogateescape")
        found += [f"{name} in process {process.info['pid']}" for name, value in secrets.items() if value in line]
    return found


def in_environments(secrets: Mapping[str, bytes]) -> list[str]:
    """Which secrets stand in which variable of which process in a pod, as they are or in Base64.

    A process' environment here is the one that it was started with, which its container's definition determines.
    """
    found: list[str] = []
    forms = {name: (value, base64.b64encode(value)) for name, value in secrets.items()}
    for process in _of_pods():
        found += in_environment(forms, process)
    return found


def in_environment(forms: Mapping[str, tuple[bytes, ...]], process: psutil.Process) -> list[str]:
    """Which secrets, in any of their forms, stand in which variable of this process."""
    try:
        variables = (Path("/proc") / str(process.pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []
    return [
        f"{name} in {variable.partition(b'=')[0].decode(errors='replace')} of process {process.pid} ({_name(process)})"
        for variable in variables
        for name, written in forms.items()
        if any(form in variable for form in written)
    ]


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return "ended"


def _of_pods() -> Iterator[psutil.Process]:
    """Processes of this machine that run in a pod."""
    for process in psutil.process_iter():
        try:
            inside = "kubepods" in (Path("/proc") / str(process.pid) / "cgroup").read_text()
        except OSError:  # it has ended
            continue
        if inside:
            yield process


def core_dump_limits() -> dict[str, str]:
    """The limit of core dumps of each process in a pod that has one other than 0, by its command."""
    found: dict[str, str] = {}
    for process in _of_pods():
        try:
            limits = (Path("/proc") / str(process.pid) / "limits").read_text().splitlines()
        except OSError:  # it has ended
            continue
        (soft,) = (line.split()[4] for line in limits if line.startswith("Max core file size"))
        if soft != "0":
            found[_name(process)] = soft
    return found
