"""`forge reset` removes what a killed command has left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cli import local_environment
from local.node.node import Node


@pytest.mark.skipif(os.geteuid() != 0, reason="it mounts a file system")
def test_mounts_of_a_killed_image_build_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("COGNIFORGE_HOME", str(home))
    monkeypatch.setattr(Node, "reset", lambda _: None)  # the machine's own node stays
    merged = home / "images/store-overlay/overlay/one/merged"
    merged.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(merged)], check=True)
    try:
        local_environment.reset()
        assert not home.exists()
    finally:
        subprocess.run(["umount", "-l", str(merged)], capture_output=True)
