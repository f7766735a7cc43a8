"""Profiles: the optional parts of an environment by one word."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import cluster, environment_file
from components.config import profiles
from components.config.base import quantity
from components.config.changes import changes
from components.config.cluster import ClusterKind
from components.config.parse import parse
from components.config.platform import Environment
from components.config.problems import ConfigError
from components.config.profile import Profile
from components.services.registry import SERVICES
from local import paths
from local.errors import LocalError
from tests.stack_files import stack_file
from tests.unit.test_platform import registered_of

SMALLEST: dict[str, Any] = {
    "environment": "local",
    "owner": "you",
    "cluster": {"kind": "local"},
    "images": {"source": "local-build"},
    "gateway": {"hosts": ["localhost"], "port": 8443},
    "models": [{"name": "demo", "engine": "simulator"}],
}


def written(**more: Any) -> dict[str, Any]:
    return {**SMALLEST, **more}


def optional(config: Any) -> set[str]:
    """Optional parts that a configuration runs."""
    return {
        f"{area}.{part}"
        for area in ("services", "data", "security", "observability")
        for part in profiles.parts(area)
        if getattr(config, area).model_dump(by_alias=True)[part] is not None
    }


def everything() -> set[str]:
    """All optional parts but Grafana, which no profile adds."""
    areas = ("services", "data", "security", "observability")
    return {f"{area}.{part}" for area in areas for part in profiles.parts(area)} - {"observability.grafana"}


def test_core_is_the_gateway_the_router_and_the_models() -> None:
    config = parse(stack_file("local"))
    assert optional(config), "the stack file has sections"
    reduced = parse({**config.model_dump(mode="json", by_alias=True), "profile": "core"})
    assert optional(reduced) == set()
    assert list(reduced.services.there) == [name for name, record in SERVICES.items() if record.always]


def test_standard_adds_what_a_new_environment_begins_with() -> None:
    asked = {f"services.{name}" for name, record in SERVICES.items() if record.asked}
    wanted = {part for part in everything() if part.startswith(("services.", "data."))} - asked
    assert optional(parse(written(profile="standard"))) == wanted


def test_full_adds_every_part() -> None:
    assert optional(parse(written(profile="full"))) == everything()


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        ({"profile": "full"}, "sidecar"),
        ({"profile": "full", "mesh": {"mode": "off"}}, "off"),
        ({"profile": "full", "cluster": {"kind": "existing", "context": "kind-mine"}}, "off"),
        ({"profile": "standard"}, "off"),
    ],
)
def test_full_adds_the_mesh_where_the_node_captures_traffic(more: dict[str, Any], mode: str) -> None:
    registry = {"images": {"source": "local-build", "registry": "localhost:5001/mine"}} if "cluster" in more else {}
    assert parse(written(**more, **registry)).mesh.mode == mode


@pytest.mark.parametrize(
    ("setting", "missing"),
    [
        ({"prometheusOperator": True}, "observability.prometheus"),
        ({"otlpEndpoint": "http://collector:4318"}, "observability.traces"),
    ],
)
def test_full_adds_no_server_that_another_one_replaces(setting: dict[str, Any], missing: str) -> None:
    found = optional(parse(written(profile="full", observability=setting)))
    assert everything() - found == {missing}


def test_a_section_gives_the_settings_of_a_part_that_the_profile_adds() -> None:
    config = parse(written(profile="standard", data={"kafka": {"partitions": 7}}))
    assert config.data.kafka is not None and config.data.kafka.partitions == 7


def test_mistakes_in_sections_that_do_not_run_are_reported() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(written(profile="core", data={"kafka": {"partitions": 0}}, services={"user": {"replicas": "x"}}))
    assert {problem.path for problem in raised.value.problems} == {"data.kafka.partitions", "services.user.replicas"}


def test_an_unknown_profile_is_reported_with_the_valid_ones() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(written(profile="huge"))
    (problem,) = raised.value.problems
    assert problem.path == "profile" and all(one in f"{problem.limit} {problem.fix}" for one in Profile)


@pytest.mark.parametrize("profile", [None, *Profile])
def test_a_dumped_configuration_stays_what_it_is(profile: Profile | None) -> None:
    config = parse(written(**({"profile": profile.value} if profile else {})))
    assert parse(config.model_dump(mode="json", by_alias=True)) == config


def test_a_smaller_profile_removes_data_only_in_a_new_environment() -> None:
    before, after = (parse(written(profile=one)) for one in ("standard", "core"))
    marks = {change.path: change.mark.value for change in changes(before, after)}
    assert marks["data.postgres"] == marks["data.kafka"] == "immutable"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(["profile", "services", "data", "security", "observability", "x"]),
                inner | st.sampled_from(list(Profile)),
            )
            | st.lists(inner)
        ),
    )
)
def test_any_data_gives_data_and_no_traceback(data: Any) -> None:
    profiles.completed(data)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stacks").mkdir()
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    return tmp_path / "stacks" / "Pulumi.mine.yaml"


TEXT = """# mine
config:
  cogniforge:platform:
    environment: local  # this machine
    owner: you
    cluster: {kind: local}
    images: {source: local-build}
    gateway: {hosts: [localhost], port: 8443}
    models:
      # the first
      - {name: demo, engine: simulator}
"""


def test_a_profile_is_one_line_of_the_stack_file(project: Path) -> None:
    project.write_text(TEXT)
    assert environment_file.set_profile("mine", Profile.CORE)
    assert project.read_text() == TEXT.replace("this machine\n", "this machine\n    profile: core\n")
    assert not environment_file.set_profile("mine", Profile.CORE)
    assert environment_file.set_profile("mine", Profile.FULL)
    assert project.read_text() == TEXT.replace("this machine\n", "this machine\n    profile: full\n")
    assert [file.name for file in project.parent.iterdir()] == [project.name]


def test_a_file_in_another_style_stays_and_the_line_is_named(project: Path) -> None:
    text = f"config: {{'cogniforge:platform': {SMALLEST}}}"
    project.write_text(text)
    with pytest.raises(LocalError, match="could not be written") as raised:
        environment_file.set_profile("mine", Profile.CORE)
    assert "`profile: core`" in str(raised.value.fix) and project.read_text() == text


def test_a_profile_that_the_rest_does_not_allow_changes_nothing(project: Path) -> None:
    rule = "    profile: core\n    security: {opa: {tenants: {mine: {models: [unknown]}}}}\n"
    text = TEXT + rule
    project.write_text(text)
    with pytest.raises(LocalError, match=r"security\.opa\.tenants"):
        environment_file.set_profile("mine", Profile.FULL)
    assert project.read_text() == text


def test_the_namespaces_of_an_environment_hold_all_its_parts() -> None:
    core, full = (cluster.namespaces(parse(written(profile=one))) for one in ("core", "full"))
    assert core == ["cogniforge"]
    assert full == ["cogniforge", "observability", "log-collector", "logs"]


@pytest.mark.xdist_group("tree")
def test_all_parts_of_a_new_local_environment_fit_on_two_cores() -> None:
    answers = environment_file.Answers("mine", ClusterKind.LOCAL, Environment.LOCAL, port=8443)
    data = {**environment_file.definition(answers), "profile": "full"}
    asked: dict[str, Decimal] = {}
    for resource in registered_of(data):
        if resource.typ.rpartition(":")[2] in ("Deployment", "StatefulSet", "DaemonSet"):
            spec = resource.inputs["spec"]
            pod = spec["template"]["spec"]
            beside = [one for one in pod.get("initContainers", []) if one.get("restartPolicy") == "Always"]
            each = [quantity(one["resources"]["requests"]["cpu"]) for one in (*pod["containers"], *beside)]
            asked[resource.name] = sum(each, Decimal()) * int(spec.get("replicas", 1))
    assert len(asked) > 20
    assert sum(asked.values()) <= Decimal("1.96") - _LARGEST_JOB, asked


_LARGEST_JOB = Decimal("0.1")
"""CPU that tasks request at the same time. The cluster's own pods request 0.04 of two cores."""
