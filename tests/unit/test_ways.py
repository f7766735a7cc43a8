"""The two ways in which a machine can run the platform."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from cli import cluster, doctor
from cli.doctor import Finding
from components.config.images import record, speaks_plain_http
from local.errors import LocalError
from local.images import context, engine

ROOT = Finding("root", False, "uid 1000", "run as root")


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without root and Debian, with a kubeconfig for one cluster."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    named = {"name": "kind-kind", "context": {"cluster": "kind", "user": "kind"}}
    (tmp_path / "config").write_text(yaml.safe_dump({"contexts": [named], "current-context": "kind-kind"}))
    monkeypatch.setattr(doctor, "_contexts", lambda: ["kind-kind"])
    return tmp_path


@pytest.mark.parametrize("docker", [True, False])
def test_a_laptop_with_docker_can_use_a_cluster_that_exists(
    laptop: Path, monkeypatch: pytest.MonkeyPatch, docker: bool
) -> None:
    monkeypatch.setattr(engine, "docker_runs", lambda: docker)
    node, existing = doctor.ways([ROOT])
    assert (node.possible, node.what) == (False, "lacks: root, Debian")
    assert existing.possible is docker
    assert existing.what == (
        "`forge init NAME --on existing --build`; contexts: kind-kind" if docker else "lacks: Docker"
    )


def test_without_a_cluster_it_cannot(laptop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "docker_runs", lambda: True)
    monkeypatch.setattr(doctor, "_contexts", lambda: [])
    assert doctor.ways([ROOT])[1].what == "lacks: a cluster in your kubeconfig (kind, k3d, minikube)"


def test_docker_makes_the_root_file_system_where_the_machine_cannot(
    laptop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""#!/bin/sh
echo "$@" > {laptop}/said
while [ $# -gt 0 ]; do case "$1" in --volume) echo made > "${{2%%:*}}/rootfs.tar";; esac; shift; done
"""
    (laptop / "docker").write_text(script)
    (laptop / "docker").chmod(0o755)
    target = tmp_path / "cache" / "bookworm.tar"
    target.parent.mkdir()
    context._make_rootfs(["python3"], target)
    said = (laptop / "said").read_text()
    assert target.read_text() == "made\n"
    assert "mmdebstrap --variant=essential --include=python3" in said
    assert f"SOURCE_DATE_EPOCH={context.SOURCE_DATE_EPOCH}" in said


def test_without_docker_the_missing_tool_is_named(laptop: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="Docker"):
        context._make_rootfs(["python3"], tmp_path / "bookworm.tar")


def test_an_existing_cluster_uses_the_users_own_kubectl(laptop: Path) -> None:
    (laptop / "kubectl").write_text("#!/bin/sh\n")
    (laptop / "kubectl").chmod(0o755)
    assert cluster.kubectl(False, "kind-kind") == [str(laptop / "kubectl"), "--context", "kind-kind"]


@pytest.mark.parametrize(
    ("registry", "plain"),
    [
        ("localhost:5001/x", True),
        ("127.0.0.1:5780", True),
        ("k3d-registry.localhost:5000/x", True),
        ("registry.local", True),
        ("registry.example.com/x", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com:5000", False),
    ],
)
def test_only_this_machines_registries_are_spoken_to_without_tls(registry: str, plain: bool) -> None:
    assert speaks_plain_http(registry) is plain


def test_each_registry_has_a_record_of_its_own() -> None:
    index = Path("/state/images/index.json")
    registries = ["", "localhost:5001/a", "localhost:5001/b", "ghcr.io/a"]
    assert len({record(index, registry) for registry in registries}) == len(registries)
    assert record(index, "../../x").is_relative_to("/state/images/elsewhere")
