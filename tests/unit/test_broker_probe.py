"""When a broker reports that it is ready, and its zone."""

from __future__ import annotations

import importlib.util
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local import paths


def script(name: str) -> ModuleType:
    """A script of the image."""
    spec = importlib.util.spec_from_file_location(name, paths.PROJECT / f"service_images/kafka/src/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    return script("probe")


def topic(name: str, partitions: list[tuple[list[int], list[int]]]) -> Any:
    """Metadata as a Kafka client reports it: replicas and in-sync replicas per partition."""
    return SimpleNamespace(
        topic=name,
        partitions={
            number: SimpleNamespace(id=number, replicas=replicas, isrs=isrs)
            for number, (replicas, isrs) in enumerate(partitions)
        },
    )


def test_a_partition_that_this_broker_keeps_and_is_not_in_sync_is_named(probe: ModuleType) -> None:
    topics = [topic("a", [([0, 1, 2], [0, 1]), ([0, 1, 2], [0, 1, 2])]), topic("b", [([0, 1], [0, 1])])]
    assert probe.out_of_sync(2, topics) == ["a-0"]


@given(st.sets(st.integers(0, 4), min_size=1), st.data())
def test_another_brokers_absence_is_not_this_ones(probe: ModuleType, replicas: set[int], data: st.DataObject) -> None:
    """Otherwise brokers would wait for each other forever."""
    isrs = data.draw(st.sets(st.sampled_from(sorted(replicas))))
    missing = {node for node in range(5) if probe.out_of_sync(node, [topic("a", [(sorted(replicas), sorted(isrs))])])}
    assert missing == replicas - isrs


@pytest.mark.parametrize(("state", "answer"), [("3.0", True), ("1.0", False), ("7.0", False)])
def test_a_serving_broker_reports_this_in_its_metrics(
    probe: ModuleType, monkeypatch: pytest.MonkeyPatch, state: str, answer: bool
) -> None:
    import io

    text = f"# TYPE kafka_broker_state gauge\nkafka_broker_state {state}\nkafka_broker_state_other 3.0\n"
    monkeypatch.setattr(probe.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(text.encode()))
    assert probe.running("9404") is answer


@pytest.mark.parametrize(
    ("labels", "zone"), [({"topology.kubernetes.io/zone": "eu-west-1a"}, "eu-west-1a"), ({"a": "b"}, "")]
)
def test_a_brokers_zone_is_its_nodes(labels: dict[str, str], zone: str) -> None:
    assert script("zone").zone({"metadata": {"name": "n", "labels": labels}}) == zone


def test_a_node_without_labels_has_no_zone() -> None:
    assert script("zone").zone({"metadata": {"name": "n"}}) == ""
