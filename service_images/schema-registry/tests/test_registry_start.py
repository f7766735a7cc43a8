"""The registry starts with its password in a file in memory: not in its environment, nor in its arguments."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

START = Path(__file__).parents[1] / "src" / "start.sh"
JAVA = """#!{python}
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ)]))
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    program = tmp_path / "bin" / "java"
    program.parent.mkdir()
    program.write_text(JAVA.format(python=sys.executable))
    program.chmod(0o755)

    def start(password: str) -> tuple[list[str], dict[str, str], Path]:
        file, settings = tmp_path / "registry", tmp_path / "database.properties"
        file.write_text(password)
        own = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "DATABASE_LOGIN_FILE": str(file),
            "SMALLRYE_CONFIG_LOCATIONS": str(settings),
        }
        done = subprocess.run(["/bin/sh", START], env=own, capture_output=True, text=True, check=True, timeout=60)
        arguments, environment = json.loads(done.stdout)
        return arguments, environment, settings

    return start


@pytest.mark.parametrize(
    ("password", "written"),
    [("of-registry", "of-registry"), ("a\\b=c#d", "a\\\\b=c#d"), ("with line end\n", "with line end")],
)
def test_only_the_properties_file_has_the_password(run: Any, password: str, written: str) -> None:
    for _ in range(2):  # a container that restarts finds the file of the one before
        arguments, environment, settings = run(password)
        assert settings.read_text().removesuffix("\n") == f"apicurio.datasource.password={written}"
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600
        assert arguments[-2:] == ["-jar", "/opt/registry/quarkus-run.jar"]
        assert password.strip() not in " ".join((*arguments, *environment.values()))


def test_without_the_file_the_registry_does_not_start(tmp_path: Path) -> None:
    own = {"PATH": os.environ["PATH"], "DATABASE_LOGIN_FILE": str(tmp_path / "none")}
    own["SMALLRYE_CONFIG_LOCATIONS"] = str(tmp_path / "database.properties")
    done = subprocess.run(["/bin/sh", START], env=own, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "No such file" in done.stderr
