"""The components as a plugin: the how-to's commands are entered as the page says, each section in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local import paths
from tests import wheel

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
PAGE = (paths.PROJECT / "docs" / "how-to" / "plugin.md").read_text()
FILES = {"yaml": "Pulumi.yaml", "python": "__main__.py"}
Run = Callable[..., str]


def _blocks(section: str) -> list[tuple[str, str]]:
    """Language and content of each block of code in a section of the page."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def run(tmp_path: Path, installed_wheel: Path) -> Run:
    """Runs a command in an empty folder, beside the environment with the platform; returns what it prints."""
    folder = tmp_path / "program"
    folder.mkdir()
    (tmp_path / "platform").symlink_to(installed_wheel)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KUBECONFIG")} | {
        "COGNIFORGE_HOME": str(tmp_path / "home"),
        "PATH": os.pathsep.join(
            [str(installed_wheel / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]],
        ),
        # What the page's user gets from a package index is in the environment already. "0" is pip's spelling of "none".
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"

    def command(line: str, *, fails: bool = False) -> str:
        line = line.replace("python3.11/", f"{version}/")
        result = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True)
        assert (result.returncode != 0) == fails, result.stdout + result.stderr
        return result.stdout + result.stderr

    return command


def _follow(section: str, folder: Path, run: Run) -> str:
    """Write the section's files and enter its commands; returns what they print."""
    printed = ""
    for language, content in _blocks(section):
        if language == "sh":
            printed += "".join(map(run, content.splitlines()))
        else:
            (folder / FILES[language]).write_text(content)
    return printed


def _created(printed: str) -> set[str]:
    """Types of the platform's components that a preview shows."""
    return set(re.findall(r"^ *\+ +cogniforge:\w+:(\w+) .* create", printed, re.MULTILINE))


def test_a_python_program_previews_a_component_with_the_sdk_that_package_add_generates(
    tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "program"
    wheel.environment(folder / ".venv", "pulumi", "parver", "setuptools")
    assert _created(_follow("Python", folder, run)) == {"ApiKey"}
    assert (folder / "requirements.txt").read_text() == "./sdks/cogniforge\n"
    listed = json.loads(run(".venv/bin/python -m pip list --format json --disable-pip-version-check"))
    names = {one["name"].lower().replace("-", "_") for one in listed}
    assert "pulumi_cogniforge" in names
    assert "cogniforge" not in names, "the program does not need the platform's package"
    assert (folder / "sdk" / "python" / "pulumi_cogniforge" / "api_key.py").exists()
    # A typed SDK: a mistake is the interpreter's, before the plugin is asked.
    (folder / "__main__.py").write_text("import pulumi_cogniforge\npulumi_cogniforge.ApiKey('client')\n")
    assert "Missing required property 'namespace'" in run("forge pulumi preview", fails=True)


def test_a_yaml_program_previews_three_components(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "program"
    assert _created(_follow("YAML", folder, run)) == {"ApiKey", "Certificate", "PlatformNamespace"}
    program = folder / "Pulumi.yaml"
    program.write_text(program.read_text().replace("secretName: client-key", "secret: client-key"))
    assert "Missing required property 'secretName'" in run("forge pulumi preview", fails=True)


def test_a_package_is_refused_for_a_python_program_without_an_environment(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "program"
    (folder / "Pulumi.yaml").write_text("name: shared\nruntime: python\n")
    (command,) = (line for _, text in _blocks("Python") for line in text.splitlines() if "package add" in line)
    refused = run(command, fails=True)
    assert "it has no virtual environment of its own" in refused
    assert "runtime.options.virtualenv" in refused
    assert not (folder / "requirements.txt").exists()
    assert "packages" not in (folder / "Pulumi.yaml").read_text()
