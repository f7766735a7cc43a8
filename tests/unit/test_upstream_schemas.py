"""Schemas of other projects: their versions and checksums, and their download."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components import catalogue
from local.errors import LocalError
from local.toolchain import upstream_schemas
from local.toolchain.tools import MODULES
from tests import upstream

SMALL = "kong-deck"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    next(upstream.documents(SMALL))  # puts the module into Go's module cache
    monkeypatch.setenv("COGNIFORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pins"
    shutil.copytree(upstream_schemas.PINS, folder)
    monkeypatch.setattr(upstream_schemas, "PINS", folder)
    return folder


@pytest.mark.parametrize("chart", ["istio-base", "karpenter", "keda", "kserve-crd"])
def test_schemas_are_of_the_version_that_is_deployed(chart: str) -> None:
    project = chart.split("-")[0]
    assert upstream_schemas.version(project).removeprefix("v") == catalogue.chart(chart).version.removeprefix("v")


@pytest.mark.parametrize("project", ["kong-deck", "kong-ingress-controller", "kserve"])
def test_schemas_are_of_the_version_that_the_controller_is_built_with(project: str) -> None:
    pin = f"\t{upstream_schemas.SOURCES[project].module} {upstream_schemas.version(project)} "
    assert pin in (MODULES / project.split("-")[0] / "go.mod").read_text()


@pytest.mark.parametrize("source", upstream_schemas.SOURCES.values(), ids=lambda s: s.project)
def test_every_module_has_a_pinned_checksum(source: upstream_schemas.SchemaSource) -> None:
    sums = (upstream_schemas.PINS / "go.sum").read_text()
    assert f"{source.module} {upstream_schemas.version(source.project)} h1:" in sums


def test_schemas_are_taken_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = upstream_schemas.resolve(SMALL)
    monkeypatch.setenv("PATH", "")
    assert upstream_schemas.resolve(SMALL) == folder
    assert [f.name for f in folder.iterdir()] == ["kong_json_schema.json"]


def test_a_module_that_differs_from_its_checksum_is_refused(cache: Path, pins: Path) -> None:
    sums = (pins / "go.sum").read_text()
    (pins / "go.sum").write_text(sums.replace(" h1:T", " h1:U"))
    with pytest.raises(LocalError) as error:
        upstream_schemas.resolve(SMALL)
    assert "clean -modcache" in error.value.fix
    assert not any((cache / "schemas").iterdir())


def test_a_module_without_a_checksum_is_refused(cache: Path, pins: Path) -> None:
    lines = (pins / "go.sum").read_text().splitlines(keepends=True)
    (pins / "go.sum").write_text("".join(line for line in lines if "go-database-reconciler" not in line))
    with pytest.raises(LocalError, match="cannot be had"):
        upstream_schemas.resolve(SMALL)
    assert not any((cache / "schemas").iterdir())


def test_a_registry_that_does_not_answer_is_explained(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    with pytest.raises(LocalError) as error:
        upstream_schemas.resolve(SMALL)
    assert "registry answered" in error.value.fix
