"""A real OpenBao for tests, not started or configured."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_images import issuer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bao_server import Store, ports, until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with a real server as integration tests."""
    for item in items:
        if {"store", "shared_store", "snapshots", "three", "cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[issuer.Cluster]:
    made = issuer.Cluster(tmp_path / "cluster")
    yield made
    made.stop()


@pytest.fixture
def store(tmp_path: Path, cluster: issuer.Cluster) -> Iterator[Store]:
    """A server that was not started yet."""
    made = Store(tmp_path / "store", cluster, ports(1))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A configured server."""
    folder = tmp_path_factory.mktemp("store")
    cluster = issuer.Cluster(folder / "cluster")
    made = Store(folder / "store", cluster, ports(1))
    made.start()
    until(made.settled, why=lambda: made.log() + made.log("keep"))
    yield made
    made.kill()
    cluster.stop()


@pytest.fixture
def three(tmp_path: Path, cluster: issuer.Cluster) -> Iterator[list[Store]]:
    """Three servers of one store, not started yet. They share a key and nothing else."""
    numbers, key = ports(3), os.urandom(32)
    made = [Store(tmp_path / f"store-{n}", cluster, numbers, n) for n in range(3)]
    for one in made:
        (one.folder / "seal" / "key").write_bytes(key)
        one.environment["STORE_SEAL_MADE_ELSEWHERE"] = "1"
    yield made
    for one in made:
        one.kill()
