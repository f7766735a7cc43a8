"""Embeddings with the real model, whose graph is built once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "embeddings" / "src")]

from embeddings.__main__ import EmbeddingsSettings, create  # noqa: E402
from embeddings.engine import Engine  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from service_images.issuer import Cluster  # noqa: E402


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> Engine:
    return Engine(model_folder, 1)


@pytest.fixture
def settings(model_folder: Path) -> EmbeddingsSettings:
    return EmbeddingsSettings(model_folder=model_folder, threads=1, rpc_port=0, host="127.0.0.1")


@pytest.fixture
def embeddings(settings: EmbeddingsSettings, cluster: Cluster) -> Iterator[httpx.Client]:
    """The service, called with the Router's token."""
    with TestClient(create(settings), raise_server_exceptions=False) as client:
        client.headers["authorization"] = f"Bearer {cluster.token('router', 'embeddings')}"
        ready(client)
        yield client


def ready(client: httpx.Client) -> None:
    """Wait until the service has the cluster's keys."""
    deadline = time.monotonic() + 10
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
