"""Objectives: promtool evaluates their rules; alerts fire for the service's own errors, and end afterwards."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.observability import alerts, objective
from components.observability.objective import FAST, SLOW, Indicator
from components.services import registry
from local.toolchain import promtool

pytestmark = pytest.mark.xdist_group("promtool")
RECORDS = registry.SERVICES
CASES = {f"{name}-{one.name}": (name, one) for name, record in RECORDS.items() for one in alerts.indicators(record)}
STEP_S = 60


def spec(*names: str) -> dict[str, Any]:
    """The rules of some services' objectives."""
    groups = [g for n in names for g in objective.groups(n, RECORDS[n].title, alerts.indicators(RECORDS[n]))]
    return {"groups": groups}


def series(query: str, value: str) -> list[dict[str, str]]:
    """Input series that the selectors of a query find; labels with expressions get an example."""
    found = []
    for metric, labels in re.findall(r"rate\(([a-z_]+)(?:\{([^}]*)\})?\[", query):
        given = re.sub(r'=~"([^"|.]+)[|.][^"]*"', lambda m: f'="{(m[1] + "00")[:3] if m[1] == "5" else m[1]}"', labels)
        found.append({"series": f"{metric}{{{given}}}", "values": value})
    return found


def counters(indicator: Indicator, per_minute: int, bad: str) -> list[dict[str, str]]:
    """Counters of `per_minute` good events, and of bad ones as given in promtool's notation."""
    good = f"0+{per_minute}x1500"
    if "_bucket" in indicator.bad:  # all events, and those that were in time
        whole, within = series(indicator.bad, "")
        minutes, failing = _pieces(bad)
        alls = {"series": whole["series"], "values": f"0+{per_minute}x1500"}
        slow = f"0+{per_minute - failing}x{minutes} {per_minute * minutes - failing * minutes}+{per_minute}x1500"
        return [alls, {"series": within["series"], "values": slow}]
    fine = [{"series": _other(one["series"]), "values": good} for one in series(indicator.bad, "")]
    return [*fine, *({**one, "values": bad} for one in series(indicator.bad, ""))]


def _pieces(bad: str) -> tuple[int, int]:
    step, times = re.match(r"0\+(\d+)x(\d+)", bad).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return int(times), int(step)


def _other(name: str) -> str:
    """The same series with another outcome."""
    return re.sub(r'(status|end|action)="[^"]*"', r'\1="200"', name)


def run(tmp_path: Path, rules: dict[str, Any], tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    content = {"rule_files": ["rules.json"], "evaluation_interval": f"{STEP_S}s", "tests": tests}
    (tmp_path / "tests.json").write_text(json.dumps(content))
    command = [str(promtool.resolve()), "test", "rules", "tests.json"]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)


def expected(service: str, indicator: Indicator, severity: str) -> dict[str, Any]:
    """The alert as promtool shows it."""
    burns = FAST if severity == "page" else SLOW
    used = " or ".join(burn.used for burn in burns)
    identity = f"{service}-{indicator.name}"
    return {
        "exp_labels": {
            "severity": severity, "sloth_id": identity, "sloth_service": service, "sloth_slo": indicator.name,
        },
        "exp_annotations": {
            "summary": f"{RECORDS[service].title}: {indicator.failing}. They use {used}.",
            **objective.runbook(service, RECORDS[service].title).annotations(),
        },
    }  # fmt: skip


def at(minute: int, service: str, indicator: Indicator, speed: str, *severities: str) -> dict[str, Any]:
    name = f"{objective.camel(service)}{objective.camel(indicator.name)}Budget{speed}"
    return {"eval_time": f"{minute}m", "alertname": name,
            "exp_alerts": [expected(service, indicator, severity) for severity in severities]}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_fault_raises_a_page_within_minutes_which_ends_after_the_fault(case: str, tmp_path: Path) -> None:
    service, indicator = CASES[case]
    # Half of the events are bad for 30 minutes.
    inputs = counters(indicator, 100, "0+100x30 3000x1000")
    if "_bucket" in indicator.bad:
        inputs = counters(indicator, 200, "0+100x30 3000x1000")
    tests = [{"interval": "1m", "input_series": inputs, "alert_rule_test": [
        at(0, service, indicator, "Fast"),
        at(12, service, indicator, "Fast", "page"),
        at(29, service, indicator, "Fast", "page"),
        at(75, service, indicator, "Fast"),
    ]}]  # fmt: skip
    done = run(tmp_path, spec(service), tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_errors_that_last_use_the_budget_slowly_and_raise_a_ticket_without_a_page(tmp_path: Path) -> None:
    service, indicator = CASES["user-availability"]
    # 0.4 % of the requests fail: four times the pace that uses the budget in 30 days.
    inputs = counters(indicator, 996, "0+4x1500")
    tests = [{"interval": "1m", "input_series": inputs, "alert_rule_test": [
        at(600, service, indicator, "Fast"),
        at(600, service, indicator, "Slow", "ticket"),
    ]}]  # fmt: skip
    done = run(tmp_path, spec(service), tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_few_failures_of_a_service_without_much_traffic_raise_nothing(tmp_path: Path) -> None:
    service, indicator = CASES["user-availability"]
    bad, good = series(indicator.bad, "0x10 4x300")[0], series(indicator.bad, "0x10 10x300")[0]
    inputs = [bad, {**good, "series": _other(good["series"])}]
    times = (12, 20, 40, 90)
    tests = [{"interval": "1m", "input_series": inputs, "alert_rule_test":
              [at(minute, service, indicator, speed) for minute in times for speed in ("Fast", "Slow")]}]  # fmt: skip
    done = run(tmp_path, spec(service), tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_service_is_silent_while_another_fails(tmp_path: Path) -> None:
    _, failing = CASES["prompt-availability"]
    user = CASES["user-availability"][1]
    inputs = [*counters(failing, 100, "0+100x600"), *counters(user, 100, "0x600")]
    tests = [{"interval": "1m", "input_series": inputs, "alert_rule_test": [
        at(60, "prompt", failing, "Fast", "page"),
        at(60, "user", user, "Fast"),
        at(60, "user", user, "Slow"),
    ]}]  # fmt: skip
    done = run(tmp_path, spec("user", "prompt"), tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_budget_is_left_in_proportion_to_the_errors(tmp_path: Path) -> None:
    service, indicator = CASES["user-availability"]
    # One request in 2,000 fails for a day: half of the budget of that time, with one in 1,000 allowed.
    inputs = counters(indicator, 1999, "0+1x1500")
    left = {"expr": 'round(slo:period_error_budget_remaining:ratio{sloth_id="user-availability"}, 0.01)',
            "eval_time": "1440m", "exp_samples": [{"labels": '{sloth_id="user-availability", sloth_service="user", '
            'sloth_slo="availability", sloth_window="30d"}', "value": 0.5}]}  # fmt: skip
    tests = [{"interval": "1m", "input_series": inputs, "promql_expr_test": [left]}]
    done = run(tmp_path, spec(service), tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_service_that_is_not_scraped_raises_a_page(tmp_path: Path) -> None:
    texts = objective.groups("user", RECORDS["user"].title, ())[-1]["rules"][0]["annotations"]
    absent = {"exp_labels": {"severity": "page", "sloth_service": "user"}, "exp_annotations": texts}
    tests = [{"interval": "1m", "input_series": [{"series": 'up{job="user"}', "values": "1x20 0x40 1x30"}],
              "alert_rule_test": [{"eval_time": "15m", "alertname": "UserNotScraped", "exp_alerts": []},
                                  {"eval_time": "45m", "alertname": "UserNotScraped", "exp_alerts": [absent]},
                                  {"eval_time": "70m", "alertname": "UserNotScraped", "exp_alerts": []}]}]  # fmt: skip
    done = run(tmp_path, spec("user"), tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules_of_every_environment(tmp_path: Path) -> None:
    rules = alerts.rules("cogniforge", frozenset((*RECORDS, "data")), RECORDS.values())
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    done = subprocess.run(
        [promtool.resolve(), "check", "rules", tmp_path / "rules.json"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_the_seconds_of_an_objective_are_the_bound_of_a_bucket() -> None:
    sources = Path(__file__).resolve().parents[2] / "service_images"
    kit = (sources / "kit/src/kit/telemetry.py").read_text()
    router = (sources / "router/src/router/tally.py").read_text()
    for name, indicator in CASES.values():
        for bound in re.findall(r'le="([^"]+)"', indicator.bad):
            text = router if "gen_ai" in indicator.bad else kit
            buckets = re.findall(r"(?:buckets=|BUCKETS_S = )\(([^)]*)\)", text)[0]
            assert float(bound) in [float(one) for one in buckets.split(",")], (name, bound)
