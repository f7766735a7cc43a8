"""No secret of the environment stands where it could be read in passing; the scanner finds a planted one."""

from __future__ import annotations

import base64
import os
import secrets as random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from kubernetes import client

from local import paths
from local.node.settings import NodePaths
from tests.e2e import secret_scanner

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def values(api: client.ApiClient) -> dict[str, bytes]:
    found = secret_scanner.values(client.CoreV1Api(api))
    assert len(found) > 20
    return found


def test_the_state_has_no_secret_in_plain_text(values: dict[str, bytes]) -> None:
    folder = paths.state() / "pulumi"
    assert any(folder.rglob("*.json"))
    assert secret_scanner.in_files(values, folder) == []


def test_no_log_has_a_secret(values: dict[str, bytes]) -> None:
    logs = NodePaths().logs
    assert any(logs.rglob("pods/**/*.log"))
    assert secret_scanner.in_files(values, logs) == []


def test_the_clusters_database_has_no_secret_in_plain_text(values: dict[str, bytes]) -> None:
    folder = NodePaths().root / "etcd"
    assert any(folder.rglob("*.wal"))
    assert secret_scanner.in_files(values, folder) == []


def test_the_project_has_no_secret(values: dict[str, bytes]) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=paths.PROJECT, capture_output=True, check=True).stdout
    files = [paths.PROJECT / name for name in listed.decode().split("\0") if name]
    assert len(files) > 500
    assert secret_scanner.in_files(values, *files) == []


def test_no_image_has_a_secret(values: dict[str, bytes]) -> None:
    keys = secret_scanner.machine({"signing": paths.state() / "keys", "node": NodePaths().root / "pki"})
    assert len(keys) > 3
    folder = NodePaths().root / "containerd" / "io.containerd.snapshotter.v1.overlayfs"
    assert any(folder.glob("snapshots/*/fs/etc/passwd"))
    assert secret_scanner.in_many_files(values | keys, folder) == []


def test_no_process_has_a_secret_among_its_arguments(values: dict[str, bytes]) -> None:
    assert secret_scanner.in_arguments(values) == []


def test_no_process_of_a_pod_has_a_secret_in_its_environment(values: dict[str, bytes]) -> None:
    assert secret_scanner.in_environments(values) == []


def test_no_process_of_a_pod_writes_core_dumps() -> None:
    assert secret_scanner.core_dump_limits() == {}


@pytest.mark.parametrize("encoded", [False, True])
def test_the_scanner_finds_a_planted_secret_in_a_file(tmp_path: Path, encoded: bool) -> None:
    planted = random.token_hex(16).encode()
    file = tmp_path / "a" / "state.json"
    file.parent.mkdir()
    file.write_bytes(b'{"x": "' + (base64.b64encode(planted) if encoded else planted) + b'"}')
    (tmp_path / "empty").touch()
    assert secret_scanner.in_files({"mine": planted}, tmp_path) == [f"mine in {file}"]
    assert secret_scanner.in_many_files({"mine": planted, "other": random.token_bytes(20)}, tmp_path) == [
        f"mine in {file}"
    ]


@pytest.mark.parametrize("encoded", [False, True])
def test_the_scanner_finds_a_planted_secret_in_an_environment(encoded: bool) -> None:
    planted = random.token_hex(16).encode()
    forms = (planted, base64.b64encode(planted))
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        env={"TOKEN": f"x{forms[encoded].decode()}", "PATH": os.environ["PATH"]},
    )
    try:
        found = secret_scanner.in_environment({"mine": forms}, psutil.Process(process.pid))
        assert len(found) == 1 and found[0].startswith(f"mine in TOKEN of process {process.pid}")
    finally:
        process.communicate()


def test_the_scanner_finds_a_planted_secret_among_arguments() -> None:
    planted = random.token_hex(16)
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", planted], stdin=subprocess.PIPE)
    try:
        assert secret_scanner.in_arguments({"mine": planted.encode()}) == [f"mine in process {process.pid}"]
    finally:
        process.communicate()
