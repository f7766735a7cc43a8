"""The CI workflows call existing commands, and request no more rights than they need."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
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
    calls = re.findall(r"\.venv/bin/forge ([^|>\n]+)", scripts(file).replace('"$ENVIRONMENT"', "prod"))
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
    assert used == set(), "a script reads variables: an expression is put into it as text"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_checkouts_keep_no_credentials(file: Path) -> None:
    checkouts = [step for step in steps(file) if step.get("uses", "").startswith("actions/checkout")]
    assert [c["with"]["persist-credentials"] for c in checkouts] == [False]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_actions_are_pinned_by_commit(file: Path) -> None:
    used = [step["uses"] for step in steps(file) if "uses" in step]
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []


def _untrusted() -> list[tuple[str, str, dict[str, Any]]]:
    """(workflow, job, definition) of every job that runs unmerged code."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    for file in WORKFLOWS:
        content = yaml.safe_load(file.read_text())
        events = content[True]  # YAML reads "on" as true
        if not {"push", "schedule"} >= set(events) or (
            events.get("push", {}) != {"branches": ["main"]} and "push" in events
        ):
            found += [(file.stem, name, {**job, "workflow": content}) for name, job in content["jobs"].items()]
    return found


@pytest.mark.parametrize(("workflow", "name", "job"), _untrusted(), ids=lambda v: v if isinstance(v, str) else "")
def test_unread_code_sees_no_secret_and_no_role(workflow: str, name: str, job: dict[str, Any]) -> None:
    rights = {**job["workflow"]["permissions"], **job.get("permissions", {})}
    assert "secrets." not in yaml.safe_dump(job["steps"]) + yaml.safe_dump(job.get("env", {}))
    assert "environment" not in job
    assert "id-token" not in rights
    if any(step.get("uses", "").startswith("actions/checkout") for step in job["steps"]):
        assert set(rights.values()) == {"read"}, "a job that runs the code may only read"


def test_secrets_belong_to_an_environment() -> None:
    for file in WORKFLOWS:
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            if "secrets." in yaml.safe_dump(job):
                assert job.get("environment") == "${{ matrix.environment }}", f"{file.stem}: {name}"
            assert "secrets." not in yaml.safe_dump(job.get("env", {})), "only the step that needs it sees a secret"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_plugins_come_by_version_and_checksum(file: Path) -> None:
    for line in scripts(file).splitlines():
        if "plugin install" in line:
            assert re.search(r'plugin install resource \S+ "\$version" --checksum "\$checksum"', line), line


def test_the_linter_of_workflows_finds_nothing() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    result = subprocess.run(
        [str(zizmor), "--offline", "--quiet", str(ROOT / ".github")], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
