"""`runtime.options.virtualenv`: the interpreter of a program or a plugin."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from pulumi.runtime.proto import language_pb2

from local.providers import language
from tests.waiting import until


def _info(folder: Path, **options: str) -> language_pb2.ProgramInfo:
    info = language_pb2.ProgramInfo(root_directory=str(folder), program_directory=str(folder / "program"))
    info.options.update(options)
    return info


def test_a_program_without_an_environment_runs_in_the_platforms(tmp_path: Path) -> None:
    assert language.interpreter(_info(tmp_path)) == Path(sys.executable)


def test_a_programs_environment_is_below_the_projects_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pyvenv.cfg").touch()
    assert language.interpreter(_info(tmp_path, virtualenv="mine")) == tmp_path / "mine" / "bin" / "python"


def test_the_platforms_own_environment_is_known_by_any_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(sys.prefix)
    assert language.interpreter(_info(tmp_path, virtualenv="link")) == Path(sys.executable)


@pytest.mark.parametrize(("name", "what"), [("none", "does not exist"), ("empty", "is not a virtual environment")])
def test_a_missing_environment_is_named_with_the_command_that_creates_it(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(language.NoEnvironment, match=what) as error:
        language.interpreter(_info(tmp_path, virtualenv=name))
    assert f"python3 -m venv {tmp_path / name}" in str(error.value)


def test_a_program_in_its_own_environment_ends_with_its_engine(tmp_path: Path) -> None:
    environment = tmp_path / "mine"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").touch()
    python = environment / "bin" / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    (tmp_path / "program").mkdir()
    host = language.Host("")
    request = language_pb2.RunRequest(info=_info(tmp_path, virtualenv="mine"))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.Run, request, None)
        try:
            until(lambda: host._processes, 30)
        finally:
            host.end_programs()
        assert "status -15" in running.result(30).error


def test_a_missing_environment_fails_program_plugin_and_installation_with_the_same_words(tmp_path: Path) -> None:
    info = _info(tmp_path, virtualenv="none")
    error = language.Host("").Run(language_pb2.RunRequest(info=info), None).error
    assert "does not exist" in error
    host = language.Host("")
    plugin, installation = language_pb2.RunPluginRequest(info=info), language_pb2.InstallDependenciesRequest(info=info)
    for call, given in ((host.RunPlugin, plugin), (host.InstallDependencies, installation)):
        context = Mock(abort=Mock(side_effect=RuntimeError))
        with pytest.raises(RuntimeError):
            next(call(given, context))
        assert context.abort.call_args.args[1] == error
