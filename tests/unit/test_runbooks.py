"""Every alert has a runbook, whose commands can be entered."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from cli import stack
from components.config.parse import parse
from components.observability import alerts
from components.observability.alert import readable
from components.services.registry import SERVICES
from tests.unit.test_cli_output import Run, golden, run
from tests.unit.test_platform import stack_file

__all__ = ["run"]

RULES = alerts.runbooks("cogniforge", SERVICES.values())
_OF_SERIES = {"pod", "persistentvolumeclaim", "job_name"}
"""Labels of series that alerts do not aggregate: Kubernetes and the scraper set them."""
_READING = re.compile(
    r"forge (status|drift|logs [^ ]+|dead-letters list)|"
    r"kubectl (--namespace cogniforge )?(get|describe|logs) .+"
)


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_its_cause_checks_and_fix(name: str) -> None:
    texts = RULES[name]["annotations"]
    assert all(texts[key].endswith(".") for key in ("summary", "cause", "fix"))
    assert [check for check in texts["checks"].splitlines() if not _READING.fullmatch(readable(check))] == []
    assert texts["checks"]


@pytest.mark.parametrize("name", RULES)
def test_its_texts_use_labels_that_the_alert_has(name: str) -> None:
    rule = RULES[name]
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
    assert used - (kept or _OF_SERIES) == set()


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parse(stack_file("local"))
    monkeypatch.setattr(stack, "read_config", lambda _: content)


@pytest.mark.usefixtures("local")
@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("runbook.txt", ["VolumeAlmostFull"], 0),
        ("runbook.json", ["VolumeAlmostFull", "-o", "json"], 0),
        ("runbook-unknown.txt", ["VolumeFull"], 1),
    ],
)
def test_runbook(run: Run, name: str, arguments: list[str], status: int) -> None:
    golden(name, run("runbook", *arguments), status)


def test_the_page_of_alerts_has_a_heading_for_each() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "alerts.md").read_text()
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == set(RULES)


def test_the_alerts_of_a_users_own_service_have_runbooks() -> None:
    service = {"image": f"registry.example.com/notes@sha256:{'1' * 64}", "asks": []}
    content = copy.deepcopy(stack_file("local"))
    content["services"]["custom"] = {"notes": service}
    known = alerts.runbooks("cogniforge", parse(content).around.records.values())
    own = {name: rule["annotations"]["checks"] for name, rule in known.items() if name.startswith("Notes")}
    assert own.keys() >= {"NotesUnavailable", "NotesLatencyHigh", "NotesNotScraped", "NotesAvailabilityBudgetFast"}
    assert all("forge logs notes" in checks or "=notes" in checks for checks in own.values())
