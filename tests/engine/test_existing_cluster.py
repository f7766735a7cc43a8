"""An existing cluster, adopted through the engine with its installed parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pulumi
import pytest
from kubernetes import client

from components.cluster.existing_cluster import ExistingCluster
from components.cluster.local_cluster import CONTEXT
from local.node.settings import NodePaths
from tests.engine.conftest import Engine, export

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs in this process, and uses the cluster like an existing one."""
    monkeypatch.setenv("KUBECONFIG", str(NodePaths().kubeconfig))


@pytest.fixture
def keda(api: client.ApiClient, core: client.CoreV1Api, unique: str) -> Iterator[Callable[[str], None]]:
    """KEDA's Deployment with a version, without pods."""
    core.create_namespace({"metadata": {"name": unique}})

    def make(version: str) -> None:
        labels = {"app.kubernetes.io/version": version}
        template = {
            "metadata": {"labels": {"app": "keda"}},
            "spec": {"containers": [{"name": "keda", "image": "keda:none"}]},
        }
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": "keda"}}, "template": template}
        body = {"metadata": {"name": "keda-operator", "labels": labels}, "spec": spec}
        client.AppsV1Api(api).create_namespaced_deployment(unique, body)

    yield make
    core.delete_namespace(unique)


def _adopt() -> None:
    cluster = ExistingCluster("there", CONTEXT)
    export(reused=cluster.has("keda"))
    pulumi.export("found", [f"{part.part.chart} {part.version}" for part in cluster.found])


def test_a_part_that_fits_is_reused(engine: Engine, keda: Callable[[str], None]) -> None:
    keda("2.20.0")
    outputs = engine.up(_adopt).outputs
    assert outputs["reused"].value is True
    assert "keda 2.20.0" in outputs["found"].value


def test_a_part_that_does_not_fit_is_refused_before_anything_is_made(
    engine: Engine, keda: Callable[[str], None]
) -> None:
    keda("2.1.0")
    message = engine.failing_up(_adopt)
    assert "KEDA 2.1.0 in" in message
    assert "fix: change it to" in message


def test_a_cluster_that_cannot_be_reached_can_be_previewed(engine: Engine) -> None:
    operations = engine.preview(lambda: ExistingCluster("away", "no-such-context") and None)
    assert operations["away"] == "create"
