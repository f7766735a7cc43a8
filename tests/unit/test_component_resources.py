"""Each component gives its resources as a typed record, so that a program can reach them."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pytest

import components
from components.base import PlatformComponent
from tests.unit.test_pods import rendered, with_components

pytestmark = pytest.mark.xdist_group("tree")

REACHABLE = (
    "apps/v1:Deployment",
    "apps/v1:StatefulSet",
    "batch/v1:Job",
    "helm.sh/v3:Release",
    "core/v1:Service",
    "serving.kserve.io/v1beta1:InferenceService",
    "aws:eks/cluster:Cluster",
    "aws:eks/nodeGroup:NodeGroup",
    "aws:rds/instance:Instance",
    "aws:msk/cluster:Cluster",
    "aws:s3/bucket:Bucket",
    "pulumi:providers:kubernetes",
)
"""Suffixes of the type tokens of resources that programs often need."""


def classes() -> list[type[PlatformComponent]]:
    """Every component class under components/; classes that other tests define are left out."""
    for module in pkgutil.walk_packages(components.__path__, "components."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[PlatformComponent]] = []
    rest: list[type[PlatformComponent]] = [PlatformComponent]
    while rest:
        known = rest.pop().__subclasses__()
        rest += known
        found += [one for one in known if one.__module__.startswith("components.") and _is_named(one)]
    return sorted(found, key=lambda one: f"{one.__module__}.{one.__name__}")


def _is_named(kind: type[PlatformComponent]) -> bool:
    """Whether a module has the class under its name: Pulumi's decorators leave a second class behind."""
    return getattr(sys.modules[kind.__module__], kind.__name__, None) is kind


def record(kind: type[PlatformComponent]) -> Any:
    """The class of a component's record; None if it has none."""
    return getattr(sys.modules[kind.__module__], f"{kind.__name__}Resources", None)


def test_every_component_class_has_a_typed_record() -> None:
    found = classes()
    assert len(found) > 35
    without = [one.__name__ for one in found if not getattr(record(one), "_fields", ())]
    assert without == []
    assert [one.__name__ for one in found if not record(one).__doc__] == []


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_every_component_gives_its_record(environment: str) -> None:
    for made in with_components(environment)[1]:
        kinds = [record(one) for one in type(made).__mro__ if issubclass(one, PlatformComponent)]
        resources: Any = made.resources
        assert type(resources) in kinds, type(made)


def _each(value: Any) -> Iterator[pulumi.Resource]:
    if isinstance(value, pulumi.Resource):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _each(one)
    elif isinstance(value, tuple):
        for one in value:
            yield from _each(one)


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_every_workload_service_and_cloud_server_can_be_reached_from_the_platform(environment: str) -> None:
    registered, made = with_components(environment)
    wanted = {(r.typ, r.name) for r in registered if r.typ.endswith(REACHABLE)}
    (platform,) = [one for one in made if type(one).__name__ == "Platform"]
    seen: set[tuple[str, str]] = set()
    rest: list[Any] = [platform]
    while rest:
        one = rest.pop()
        place = one.pulumi_resource_type, one.pulumi_resource_name
        if place not in seen:
            seen.add(place)
            rest += _each(getattr(one, "resources", ()))
    assert wanted
    assert wanted - seen == set()
    assert rendered(environment) is registered
