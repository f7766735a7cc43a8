"""Parts that a cluster has already: reused, refused with a reason, or installed by the platform."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import catalogue
from components.cluster import detection
from components.cluster.detection import ClusterConflict


def deployment(name: str, image: str, namespace: str = "there", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
    }


def judged(*found: dict[str, Any], own: tuple[str, ...] = ()) -> list[detection.Found]:
    return detection.judge(found, own)


def test_an_empty_cluster_has_nothing() -> None:
    assert judged(deployment("web", "nginx:1")) == []


def test_the_pinned_version_is_reused() -> None:
    (found,) = judged(deployment("istiod", f"docker.io/istio/pilot:{catalogue.chart('istiod').version}"))
    assert found.reused


def test_one_minor_version_less_is_reused() -> None:
    assert judged(deployment("istiod", "registry:5000/istio/pilot:1.29.9"))[0].reused


@pytest.mark.parametrize("version", ["1.28.0", "1.31.0", "2.30.3", "0.30.3"])
def test_another_version_is_refused_with_the_fix(version: str) -> None:
    (found,) = judged(deployment("istiod", f"istio/pilot:{version}"))
    assert "tested with 1.30.3" in found.refusal
    assert "1.30.3" in found.fix


def test_the_charts_label_counts_more_than_the_images_tag() -> None:
    version = catalogue.chart("keda").version
    assert judged(deployment("keda-operator", "keda:latest", **{"app.kubernetes.io/version": version}))[0].reused


def test_an_unknown_version_is_refused() -> None:
    assert "is unknown" in judged(deployment("istiod", "registry:5000/istio/pilot@sha256:abc"))[0].refusal


def test_the_platforms_own_parts_are_neither_reused_nor_refused() -> None:
    (found,) = judged(deployment("istiod", "pilot:1.0.0", "istio-system"), own=("istio-system",))
    assert (found.ours, found.reused, found.refusal) == (True, False, "")


def test_all_conflicts_are_reported_at_once() -> None:
    found = judged(deployment("istiod", "pilot:1.2.3"), deployment("keda-operator", "keda:1.0.0"))
    text = str(ClusterConflict(found))
    assert "Istio 1.2.3 in there" in text
    assert "KEDA 1.0.0 in there" in text


@given(st.sampled_from(detection.FOOTPRINTS), st.text(max_size=40))
def test_any_tag_is_judged(part: detection.Footprint, tag: str) -> None:
    (found,) = judged(deployment(part.deployment, f"image:{tag}"))
    assert found.reused != bool(found.refusal)
