"""Rules for dashboards, on Grafana's JSON. Each rule yields what breaks it, as "<dashboard> / <panel>: <reason>"."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import yaml

from components.observability.alert import metrics
from components.observability.panel import Unit
from local.toolchain import promtool

Board = dict[str, Any]
Rule = Callable[[Board], Iterator[str]]
_INTERVAL = "$__rate_interval"
_BY = re.compile(r"\bby \(([^)]*)\)")


def _panels(board: Board) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in board["panels"]:
        yield f"{board['title']} / {panel.get('title') or 'a panel without a title'}", panel


def _targets(board: Board) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, panel in _panels(board):
        if not panel.get("targets"):
            yield f"{place}", {}
        for target in panel.get("targets", []):
            yield place, target


def unit(board: Board) -> Iterator[str]:
    """Each panel has a unit that Grafana knows. Grafana shows the name of another one as it is."""
    for place, panel in _panels(board):
        given = panel["fieldConfig"]["defaults"].get("unit")
        if not given:
            yield f"{place}: no unit"
        elif given not in get_args(Unit):
            yield f"{place}: {given} is no unit of Grafana"


def description(board: Board) -> Iterator[str]:
    """Each dashboard and each panel says what it shows."""
    if not board.get("description"):
        yield f"{board['title']}: no description"
    for place, panel in _panels(board):
        if len((panel.get("description") or "").split()) < 3:
            yield f"{place}: no description"


def legend(board: Board) -> Iterator[str]:
    """Each query has a legend that tells its series apart: with all labels of a sum, and with no other."""
    for place, target in _targets(board):
        text, expression = target.get("legendFormat") or "", target.get("expr") or ""
        if not text or text == "__auto":
            yield f"{place}: no legend"
            continue
        grouped = {one.strip() for found in _BY.findall(expression) for one in found.split(",")} - {"le"}
        named = set(re.findall(r"{{(\w+)}}", text))
        if missing := grouped - named:
            yield f"{place}: the legend lacks {', '.join(sorted(missing))}"
        if grouped and (unknown := named - grouped):
            yield f"{place}: no series has {', '.join(sorted(unknown))}"


def source(board: Board) -> Iterator[str]:
    """Data sources are a variable that the dashboard defines: a fixed one exists in one Grafana only."""
    variables = {f"${{{one['name']}}}" for one in board["templating"]["list"] if one["type"] == "datasource"}
    for place, panel in _panels(board):
        for one in (panel, *panel.get("targets", [])):
            if (one.get("datasource") or {}).get("uid") not in variables:
                yield f"{place}: the data source is not a variable"


def interval(board: Board) -> Iterator[str]:
    """Rates take Grafana's interval, which is never shorter than two scrapes."""
    for place, target in _targets(board):
        for window in re.findall(r"\[([^\]]*)\]", re.sub(r'"[^"]*"', "", target.get("expr") or "")):
            if window != _INTERVAL:
                yield f"{place}: the range [{window}] is not [{_INTERVAL}]"


def owner(board: Board) -> Iterator[str]:
    """Each dashboard names its owner."""
    if not any(re.fullmatch(r"owner:\S.*", tag) for tag in board.get("tags", [])):
        yield f"{board['title']}: no owner"


def existing(known: set[str]) -> Rule:
    """Each metric exists."""

    def rule(board: Board) -> Iterator[str]:
        for place, target in _targets(board):
            asked = metrics(target.get("expr") or "")
            if not asked:
                yield f"{place}: no metric"
            for name in sorted(asked - known):
                yield f"{place}: {name} is not scraped"

    return rule


def parsed(folder: Path) -> Rule:
    """Prometheus can read each query."""

    def rule(board: Board) -> Iterator[str]:
        # One group for each query, so that promtool's message names the panel.
        groups: list[dict[str, Any]] = []
        for number, (_, target) in enumerate(_targets(board)):
            expression = (target.get("expr") or "").replace(_INTERVAL, "5m")
            groups.append({"name": f"{number}", "rules": [{"record": f"query:{number}", "expr": expression}]})
        places = [place for place, _ in _targets(board)]
        (folder / "queries.yml").write_text(yaml.safe_dump({"groups": groups}))
        command = [str(promtool.resolve()), "check", "rules", "--lint=none", "queries.yml"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if done.returncode:
            said = done.stdout + done.stderr
            wrong = sorted({int(one) for one in re.findall(r'group "(\d+)"', said)})
            yield from (f"{places[number]}: Prometheus cannot read it" for number in wrong)
            if not wrong:
                yield f"{board['title']}: {said.strip()}"

    return rule
