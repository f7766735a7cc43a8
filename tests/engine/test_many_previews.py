"""Many previews of prod under load: none reports an error of a plugin, and none ends with 0 after an error.

`PREVIEWS=5 python -m tests.drills previews` runs fewer than the 200 of the drill.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import documents
from local import paths

COUNT = int(os.environ.get("PREVIEWS", "200"))
AT_ONCE = 4
"""Twice the cores that the engine and its plugins have here: each plugin waits for a core when it starts and ends."""
PROGRESS = 20
"""Previews between two lines of progress."""
pytestmark = [pytest.mark.drill("previews"), pytest.mark.timeout(600 + COUNT * 120)]


@dataclass(frozen=True)
class Run:
    """What a user or a script sees of one preview."""

    status: int
    refused: bool
    changes: int
    errors: tuple[str, ...]


def _preview(home: Path) -> Run:
    command = [str(Path(sys.executable).parent / "forge"), "preview", "--stack", "prod", "--output", "json"]
    env = {**os.environ, "COGNIFORGE_HOME": str(home)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=paths.PROJECT, env=env)
    if not result.stdout.strip():  # it failed before there was a document
        return Run(result.returncode, refused=True, changes=0, errors=(result.stderr.strip(),))
    found = documents.Preview.model_validate_json(result.stdout)
    return Run(result.returncode, found.refused, len(found.changes), tuple(found.errors))


def test_previews_of_prod_under_load_report_no_errors_and_their_status_is_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _preview(tmp_path)  # it makes the stack; the others find it
    runs = [first]
    statuses, errors = Counter([first.status]), Counter(first.errors)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for ended in as_completed([pool.submit(_preview, tmp_path) for _ in range(COUNT - 1)]):
            run = ended.result()
            runs.append(run)
            statuses[run.status] += 1
            errors.update(run.errors)
            if len(runs) % PROGRESS == 0 or len(runs) == COUNT:
                with capsys.disabled():
                    print(f"\n{len(runs)} of {COUNT} previews, {AT_ONCE} at a time: ", end="")
                    print(f"exit statuses {dict(statuses)}, errors {dict(errors)}", flush=True)
    assert [run for run in runs if run.status == 0 and (run.errors or run.refused)] == []
    assert errors == {}
    assert statuses == {int(first.refused): COUNT}
    assert {run.changes for run in runs} == {first.changes}
    assert first.changes > 100
