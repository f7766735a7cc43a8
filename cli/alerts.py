"""Alerts of an environment's Prometheus, which is asked through the cluster's API server."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from rich.markup import escape

from cli import cluster, jobs, output, stack
from cli.documents import Alerts, RaisedAlert
from components.observability.prometheus import NAMESPACE, PART
from local.errors import LocalError


def collect(name: str) -> Alerts:
    """The raised alerts, pages first. Raises LocalError if there is no Prometheus, or if it does not answer."""
    config = stack.read_config(name)
    if config.observability.prometheus is None:
        raise LocalError(
            f"{name} has no Prometheus of the platform", fix="add observability.prometheus, or ask your own"
        )
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    answer = json.loads(jobs.ask(command, "alerts", NAMESPACE, f"{PART}:http", "/api/v1/alerts"))
    found = [_read(one) for one in answer["data"]["alerts"]]
    return Alerts(stack=name, alerts=sorted(found, key=lambda a: (a.state != "firing", a.severity, a.name, a.since)))


def _read(alert: dict[str, Any]) -> RaisedAlert:
    labels = {key: value for key, value in alert["labels"].items() if key not in ("alertname", "severity")}
    return RaisedAlert(
        name=alert["labels"]["alertname"],
        severity=alert["labels"].get("severity", ""),
        state=alert["state"],
        since=datetime.fromisoformat(alert["activeAt"]),
        summary=alert["annotations"].get("summary", ""),
        labels=labels,
    )


def show(found: Alerts) -> None:
    """Print the alerts, each with its summary."""
    if not found.alerts:
        output.line(f"[green]no alert of {found.stack} is raised[/]")
    for alert in found.alerts:
        colour = "red" if alert.state == "firing" else "yellow"
        since = alert.since.strftime("%Y-%m-%d %H:%M:%S UTC")
        output.line(f"[{colour}]{alert.state}[/] {alert.severity} [bold]{alert.name}[/], since {since}")
        output.line(f"  {escape(alert.summary)}", indent=2)
    if found.alerts:
        output.line("`forge runbook NAME` shows an alert's cause, checks and fix")
