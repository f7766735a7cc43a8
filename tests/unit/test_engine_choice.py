"""The choice of the image builder, and its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.images import engine
from local.images.context import SOURCE_DATE_EPOCH

DIGEST = "sha256:" + "a" * 64
SCRIPT = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
  info) exit {info} ;;
  inspect) echo '["127.0.0.1:5780/cogniforge/x@{digest}"]' ;;
esac
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    engine._docker_runs.cache_clear()
    yield
    engine._docker_runs.cache_clear()


def docker(folder: Path, monkeypatch: pytest.MonkeyPatch, *, running: bool) -> Path:
    program, log = folder / "docker", folder / "log"
    program.write_text(SCRIPT.format(log=log, info=0 if running else 1, digest=DIGEST))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("COGNIFORGE_HOME", str(folder / "home"))
    return log


def test_a_running_docker_engine_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch, running=True)
    assert engine.choose().name == "docker"


def test_a_docker_client_without_an_engine_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker(tmp_path, monkeypatch, running=False)
    assert engine.choose().name == "buildah"


def test_docker_gets_the_fixed_date_and_the_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = docker(tmp_path, monkeypatch, running=True)
    digest = engine.Docker().build_and_push(tmp_path, "127.0.0.1:5780/cogniforge/x:1", {"BASE": "base@sha256:b"})
    build = next(line for line in log.read_text().splitlines() if line.startswith("build"))
    assert digest == DIGEST
    assert f"--build-arg SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}" in build
    assert "--build-arg BASE=base@sha256:b" in build
