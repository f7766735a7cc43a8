"""`forge` against the running environment: output for users and for scripts."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli import documents
from local import paths
from tests.e2e.conftest import FORGE, forge
from tests.waiting import until

pytestmark = pytest.mark.e2e
GUIDES = paths.PROJECT / "docs" / "how-to"


def test_status_is_a_document() -> None:
    found = documents.Status.model_validate_json(forge("status", "--output", "json").stdout)
    assert found.healthy
    assert {"router", "gateway"} <= {part.name for part in found.parts}
    assert not {part.name for part in found.parts} & {task.name for task in found.tasks}


def test_status_shows_tasks_only_with_all_and_fits_100_columns() -> None:
    tasks = documents.Status.model_validate_json(forge("status", "-o", "json").stdout).tasks
    short, long = forge("status").stdout, forge("status", "--all").stdout
    assert "Tasks" not in short
    assert all(task.name in long for task in tasks)
    assert max(map(len, long.splitlines())) <= 100


def test_logs_of_an_unknown_part_name_the_parts() -> None:
    result = forge("logs", "nope", check=False)
    assert result.returncode == 1
    assert "router" in result.stderr and "Traceback" not in result.stderr


def test_preview_of_the_running_version_changes_nothing() -> None:
    found = documents.Preview.model_validate_json(forge("preview", "--output", "json").stdout)
    assert (found.refused, found.errors, found.unreleased_images) == (False, [], [])
    assert found.upgrade.deployed


def test_destroy_without_an_answer_deletes_nothing() -> None:
    result = subprocess.run([str(FORGE), "destroy"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 1
    assert "add --yes in a script" in " ".join(result.stderr.split())
    assert "resources of local" in result.stdout


@pytest.mark.parametrize("client", ["openai", "anthropic", "curl"])
def test_the_set_up_of_a_client_gets_an_answer(client: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(forge("env", "--client", client).stdout)
    result = subprocess.run(
        ["sh" if client == "curl" else sys.executable, str(program)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_exported_variables_lead_a_client_here() -> None:
    program = "from openai import OpenAI; print([m.id for m in OpenAI().models.list()])"
    command = (
        f'eval "$({shlex.quote(str(FORGE))} env --export)"; {shlex.quote(sys.executable)} -c {shlex.quote(program)}'
    )
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=paths.PROJECT)
    assert "demo" in result.stdout, result.stderr


def followed(guide: Path) -> dict[str, str]:
    """Run all commands of a guide. Returns what each has printed, by its first two words; the last one of a kind."""
    name = secrets.token_hex(4)  # the ID of a deleted tenant is never reused
    said: dict[str, str] = {}
    for block in re.findall(r"```sh\n(.*?)```", guide.read_text(), re.DOTALL):
        for line in block.splitlines():
            if "prod-eu" in line or line.startswith("eval"):
                continue  # another environment; its variables have their own test
            own = line.replace("search-team", f"search-team-{name}").replace("ada@", f"ada-{name}@")
            command = shlex.split(own)
            said[" ".join(command[1:3])] = forge(*command[1:]).stdout
    return said


def test_the_guide_to_clients_works_as_it_is_written() -> None:
    said = followed(GUIDES / "clients.md")
    assert "their service" in said["key list"]
    assert "237" in said["usage left"] or "250" in said["usage left"]


def test_the_guide_to_people_works_as_it_is_written() -> None:
    said = followed(GUIDES / "people.md")
    assert "one time password" in said["person password"]
    assert re.search(r"ada-\w+@example.com +yes", said["person list"])
    assert "is removed" in said["person remove"]


def test_a_key_works_until_it_is_revoked() -> None:
    team = f"t-{secrets.token_hex(4)}"
    forge("tenant", "create", team)
    made = json.loads(forge("key", "create", team, "test", "--output", "json").stdout)
    access = documents.Environment.model_validate_json(forge("env", "-o", "json").stdout)

    def status() -> str:
        command = ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "--cacert", access.authority_file]
        command += ["-H", f"Authorization: Bearer {made['key']}", f"{access.url}/models"]
        return subprocess.run(command, capture_output=True, text=True).stdout

    until(lambda: status() == "200", 10)
    forge("key", "revoke", team, made["id"], "--yes")
    until(lambda: status() == "401", 10)
    forge("tenant", "delete", team, "--yes")


def test_the_footprint_has_figures_of_each_part() -> None:
    found = json.loads(forge("footprint", "--seconds", "12", "--requests", "20", "--output", "json").stdout)
    status = json.loads(forge("status", "--output", "json").stdout)
    running = {part["name"] for part in status["parts"]} - {"coredns", "metrics-server"}
    parts = {part["name"]: part for part in found["parts"]}
    assert parts.keys() == running
    assert all(part["memoryMib"] > 0 and part["imageMib"] > 0 for part in parts.values())
    assert parts["kafka"]["diskMib"] > 0 and parts["router"]["diskMib"] == 0
    assert sum(part["cpuMillicores"] for part in parts.values()) > 0
    logged = {one["part"]: one for one in found["telemetry"] if one["signal"] == "logs"}
    assert logged["router"]["bytesPerRequest"] > 0
