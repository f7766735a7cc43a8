"""dev, staging and prod through the real engine: previewed without a cluster, credentials or network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from local import paths

pytestmark = pytest.mark.engine


def _pulumi(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "COGNIFORGE_HOME": str(home),
        "KUBECONFIG": str(home / "none"),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    program = [sys.executable, "-m", "local.toolchain.shim"]
    return subprocess.run(
        [*program, *arguments, "--non-interactive"], capture_output=True, text=True, cwd=paths.PROJECT, env=env
    )


@pytest.fixture(params=["dev", "staging", "prod"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    initialised = _pulumi(tmp_path, "stack", "init", request.param, "--no-select")
    assert initialised.returncode == 0, initialised.stderr
    return request.param, tmp_path


def test_an_environment_can_be_previewed_with_nothing_there(
    environment: tuple[str, Path],
) -> None:
    name, home = environment
    file = paths.PROJECT / "stacks" / f"Pulumi.{name}.yaml"
    before = file.read_text()
    result = _pulumi(home, "preview", "--stack", name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert file.read_text() == before
    assert "encryptionsalt" not in before
    count = re.search(r"\+ (\d+) to create", result.stdout)
    assert count is not None
    assert 20 < int(count[1]) <= 600


def test_unreleased_images_are_refused_before_anything_is_made(environment: tuple[str, Path]) -> None:
    name, home = environment
    result = _pulumi(home, "up", "--yes", "--skip-preview", "--stack", name)
    assert result.returncode != 0
    text = result.stdout + result.stderr
    assert "is not released" in text
    assert "Traceback" not in text
