"""Alerts: the rules of the platform's Prometheus with their state, and what to do about each."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from portal.servers import Server
from portal.view import Views, Visit

_RULES = "/api/v1/rules?type=alert"
_ORDER = ("firing", "pending", "inactive", "unknown")
"""States of a rule, the worst first."""


class Alerts:
    """The page. Alerts are about all tenants' parts, so operators see them only."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """The rules, firing ones first."""
        server, operator = self._views.servers.prometheus, visit.session.operator
        found, problem = await _rules(server) if server.on and operator else ([], "")
        counts = {state: sum(one["state"] == state for one in found) for state in _ORDER}
        return await self._views.show(
            visit, "alerts.html", on=server.on, problem=problem, found=found, counts=counts, query=server.url + _RULES
        )


async def _rules(server: Server) -> tuple[list[dict[str, Any]], str]:
    """(the rules, why there are none)."""
    heard = await server.ask(_RULES)
    if heard.problem:
        return [], heard.problem
    try:
        groups: list[Any] = heard.content["data"]["groups"]
        found = [_rule(rule) for group in groups for rule in group["rules"] if rule["type"] == "alerting"]
    except (AttributeError, KeyError, TypeError):
        return [], "Prometheus' answer has an unknown form."
    return sorted(found, key=lambda one: (_ORDER.index(one["state"]), one["severity"], one["name"])), ""


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a rule: state, raised alerts with their texts, and the runbook."""
    texts, state = rule.get("annotations", {}), rule.get("state", "unknown")
    raised = [
        {"summary": one.get("annotations", {}).get("summary", ""), "state": one.get("state", ""),
         "since": one.get("activeAt", "")}
        for one in rule.get("alerts", ())
    ]  # fmt: skip
    return {
        "name": rule["name"],
        "state": state if state in _ORDER else "unknown",
        "severity": rule.get("labels", {}).get("severity", ""),
        "summary": texts.get("summary", ""),
        "raised": sorted(raised, key=lambda one: one["since"]),
        "cause": texts.get("cause", ""),
        "checks": texts.get("checks", ""),
        "fix": texts.get("fix", ""),
        "error": rule.get("lastError", ""),
    }
