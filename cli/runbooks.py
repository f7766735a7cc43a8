"""Runbooks of alerts: what each one means, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from cli import output, stack
from cli.documents import AlertRunbook
from components.observability import alerts
from components.observability.alert import readable
from local.errors import LocalError


def find(stack_name: str, name: str) -> AlertRunbook:
    """Runbook of an alert of the environment. Raises LocalError for an unknown one."""
    config = stack.read_config(stack_name)
    known = alerts.runbooks(config.cluster.namespace, config.around.records.values())
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        fix = f"did you mean {' or '.join(close)}?" if close else "`forge alerts` lists the raised alerts"
        raise LocalError(f"no alert is named {name!r}", fix=fix)
    return read(known[name])


def read(rule: Mapping[str, Any]) -> AlertRunbook:
    """Runbook in a rule's annotations."""
    texts = {name: readable(text) for name, text in rule["annotations"].items()}
    return AlertRunbook(
        alert=rule["alert"],
        severity=rule["labels"]["severity"],
        lasts=rule.get("for", "0m"),
        condition=rule["expr"],
        summary=texts["summary"],
        cause=texts["cause"],
        checks=texts["checks"].splitlines(),
        fix=texts["fix"],
    )


def show(found: AlertRunbook) -> None:
    """Print a runbook."""
    output.line(f"[bold]{found.alert}[/] ({found.severity})")
    output.line(f"  {escape(found.summary)}", indent=2)
    output.line(f"[bold]cause[/]  {escape(found.cause)}", indent=7)
    output.line("[bold]check[/]")
    for command in found.checks:
        output.line(f"  {escape(command)}", indent=4)
    output.line(f"[bold]fix[/]    {escape(found.fix)}", indent=7)
