"""The folder that `forge` works on, in a checkout and from the wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cli import place, project_files
from components import sources
from components.config import schema
from local import paths
from local.errors import LocalError
from tests.unit.test_cli_output import Run, run

__all__ = ["run"]


def _project(folder: Path, name: str = "cogniforge") -> Path:
    (folder / "stacks").mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text(f"name: {name}\n")
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "INSTALLED", True)


def test_a_checkout_works_on_itself_wherever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_project(tmp_path))
    assert sources.project() == Path(__file__).parents[2]


def test_the_wheel_works_on_the_project_around_the_working_directory(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = _project(tmp_path / "p") / "stacks"
    monkeypatch.chdir(below)
    assert sources.project() == tmp_path / "p"
    _project(tmp_path / "other", "other")
    for folder in (tmp_path, tmp_path / "other"):
        monkeypatch.chdir(folder)
        assert sources.project() == folder


def test_the_wheels_forge_is_refused_in_a_checkout(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_project(tmp_path) / "components").mkdir()
    monkeypatch.chdir(tmp_path)
    place.refuse_another_checkout()
    (tmp_path / "components" / "platform.py").touch()
    with pytest.raises(LocalError, match="belongs to a checkout"):
        place.refuse_another_checkout()


def test_a_new_project_holds_its_program_and_the_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path / ".venv"))
    project_files.refuse_foreign(tmp_path)
    assert project_files.write(tmp_path) == ["Pulumi.yaml", "__main__.py"]
    assert sources.project_of(tmp_path) == tmp_path
    written = yaml.safe_load((tmp_path / "Pulumi.yaml").read_text())
    assert written["runtime"] == {"name": "python", "options": {"virtualenv": ".venv"}}
    assert (tmp_path / "stacks" / "platform.schema.json").read_text() == schema.json_schema()
    assert project_files.write(tmp_path) == []


def test_an_environment_elsewhere_is_not_named_in_the_project(tmp_path: Path) -> None:
    project_files.write(tmp_path)
    assert yaml.safe_load((tmp_path / "Pulumi.yaml").read_text())["runtime"] == "python"


@pytest.mark.parametrize("name", ["Pulumi.yaml", "__main__.py"])
def test_another_programs_folder_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("name: mine\n")
    with pytest.raises(LocalError, match="another program"):
        project_files.refuse_foreign(tmp_path)


def test_an_installed_package_is_not_released(
    installed: None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = run("release", "registry.example.com/x")
    assert code == 1
    assert "the installed package cannot be released" in " ".join(errors.split())


def test_a_source_file_is_named_from_where_its_source_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    for folder in (tmp_path, sources.ROOT):
        assert paths.in_source(folder / "a" / "b") == Path("a/b")
    assert paths.in_source(Path("/elsewhere/a")) == Path("/elsewhere/a")
