"""The CI workflows: what they call exists, and they ask for no more rights than they need."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def steps(file: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(file.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def scripts(file: Path) -> str:
    return "\n".join(step["run"] for step in steps(file) if "run" in step)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_every_forge_command_exists(file: Path) -> None:
    calls = re.findall(r"\.venv/bin/forge ([^|>\n]+)", scripts(file).replace("${{ matrix.environment }}", "prod"))
    assert calls
    for call in calls:
        name, *arguments = shlex.split(call)
        typer.main.get_command(app).commands[name].make_context(name, arguments).close()


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_the_token_may_not_write_contents(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["permissions"]["contents"] == "read"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_nothing_from_outside_is_put_into_a_script(file: Path) -> None:
    used = set(re.findall(r"\$\{\{\s*([^}]+?)\s*\}\}", scripts(file)))
    assert used <= {"matrix.environment", "github.repository", "github.event.pull_request.number"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_checkouts_keep_no_credentials(file: Path) -> None:
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout")]
    assert [c["with"]["persist-credentials"] for c in checkouts] == [False]
