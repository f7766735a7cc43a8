"""`forge reset` removes what a killed command has left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cli import local_environment
from local.node import network
from local.node.node import Node
from local.node.settings import NodePaths


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


def test_the_link_to_the_logs_of_pods_is_the_nodes_own_and_nobody_elses(tmp_path: Path) -> None:
    node, place = NodePaths(), tmp_path / "log" / "pods"
    network.show_pod_logs(node, place)
    network.show_pod_logs(node, place)
    assert place.readlink() == node.pod_logs
    network.hide_pod_logs(node, place)
    assert not place.is_symlink()
    place.symlink_to(tmp_path / "gone")
    network.show_pod_logs(node, place)
    assert place.readlink() == node.pod_logs
    place.unlink()
    place.mkdir()
    (place / "of-another-kubelet").touch()
    network.show_pod_logs(node, place)
    network.hide_pod_logs(node, place)
    assert (place / "of-another-kubelet").exists()
