"""What the Python language host does for `pulumi package add`: requirements, and their installation."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from pulumi.runtime.proto import language_pb2

from local.errors import LocalError
from local.providers import language, sdk
from local.toolchain import builder


def _info(folder: Path, virtualenv: str = ".venv") -> language_pb2.ProgramInfo:
    info = language_pb2.ProgramInfo(root_directory=str(folder), program_directory=str(folder))
    if virtualenv:
        info.options.update({"virtualenv": virtualenv})
    return info


def _link(folder: Path, *names: str, virtualenv: str = ".venv") -> language_pb2.LinkResponse:
    request = language_pb2.LinkRequest(info=_info(folder, virtualenv))
    for name in names:
        package = folder / "sdks" / name / f"pulumi_{name.replace('-', '_')}"
        package.mkdir(parents=True, exist_ok=True)
        (package / "pulumi-plugin.json").touch()
        linked = request.packages.add(path=f"sdks/{name}")
        linked.package.name = name
    return sdk.link(request)


def _environment(folder: Path, pip: str) -> Path:
    """A virtual environment whose interpreter is a shell script."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (folder / ".venv" / "pyvenv.cfg").touch()
    python.write_text(f"#!/bin/sh\n{pip}\n")
    python.chmod(0o755)
    return python


def test_an_sdk_is_added_to_the_requirements_once_and_the_rest_of_them_stays(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# ours\nhttpx==0.28")
    answer = _link(tmp_path, "some-thing", "other")
    assert "import pulumi_some_thing as some_thing" in answer.import_instructions
    assert "import pulumi_other as other" in answer.import_instructions
    _link(tmp_path, "other")
    assert file.read_text() == "# ours\nhttpx==0.28\n./sdks/some-thing\n./sdks/other\n"


def test_an_sdk_for_a_program_without_an_environment_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no virtual environment of its own") as error:
        _link(tmp_path, "other", virtualenv="")
    assert "runtime.options.virtualenv" in error.value.fix
    assert not (tmp_path / "requirements.txt").exists()


def test_requirements_are_installed_with_the_programs_own_pip_and_its_output_is_shown(tmp_path: Path) -> None:
    _environment(tmp_path, 'echo "$@"; echo careful >&2')
    (tmp_path / "requirements.txt").write_text("./sdks/other\n")
    request = language_pb2.InstallDependenciesRequest(info=_info(tmp_path))
    shown = list(language.Host("").InstallDependencies(request, Mock()))
    assert b"".join(one.stdout for one in shown).split()[:3] == [b"-m", b"pip", b"install"]
    assert b"".join(one.stderr for one in shown) == b"careful\n"


def test_a_failed_installation_is_an_error(tmp_path: Path) -> None:
    _environment(tmp_path, "exit 3")
    (tmp_path / "requirements.txt").write_text("./sdks/other\n")
    context = Mock(abort=Mock(side_effect=RuntimeError))
    request = language_pb2.InstallDependenciesRequest(info=_info(tmp_path))
    with pytest.raises(RuntimeError):
        list(language.Host("").InstallDependencies(request, context))
    assert "pip could not install" in context.abort.call_args.args[1]


@pytest.mark.parametrize("is_plugin", [True, False])
def test_nothing_is_installed_for_a_plugin_or_without_requirements(tmp_path: Path, is_plugin: bool) -> None:
    _environment(tmp_path, "exit 3")
    if is_plugin:
        (tmp_path / "requirements.txt").write_text("./sdks/other\n")
    request = language_pb2.InstallDependenciesRequest(info=_info(tmp_path), is_plugin=is_plugin)
    assert list(language.Host("").InstallDependencies(request, Mock())) == []


def test_the_reason_of_a_generator_that_fails_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "generator"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such schema')\n")
    program.chmod(0o755)
    monkeypatch.setattr(builder, "resolve", lambda _: program)
    context = Mock(abort=Mock(side_effect=RuntimeError))
    with pytest.raises(RuntimeError):
        language.Host("").GeneratePackage(language_pb2.GeneratePackageRequest(), context)
    assert "no such schema" in context.abort.call_args.args[1]
