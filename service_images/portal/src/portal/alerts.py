"""Alerts: the rules of the platform's Prometheus with their state, and what to do about each."""

from __future__ import annotations

from typing import Any

import httpx
from kit import logs, strict_json
from starlette.responses import Response

from portal.view import Views, Visit

log = logs.get("portal.alerts")
_RULES = "/api/v1/rules?type=alert"
_TIMEOUT = httpx.Timeout(5.0, connect=2.0)
_MOST_BYTES = 8 * 2**20
_ORDER = ("firing", "pending", "inactive", "unknown")
"""States of a rule, the worst first."""


class Alerts:
    """The page. Alerts are about all tenants' parts, so operators see them only."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """The rules, firing ones first."""
        url, operator = self._views.settings.prometheus_url, visit.session.operator
        found, problem = await _rules(url) if url and operator else ([], "")
        counts = {state: sum(one["state"] == state for one in found) for state in _ORDER}
        return await self._views.show(
            visit, "alerts.html", on=bool(url), problem=problem, found=found, counts=counts, query=url + _RULES
        )


async def _rules(url: str) -> tuple[list[dict[str, Any]], str]:
    """(the rules, why there are none). Prometheus is asked directly: it is no part of the API, and knows no keys."""
    try:
        async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False) as client:
            answer = await client.get(_RULES)
        if len(answer.content) > _MOST_BYTES or answer.status_code != 200:
            return [], f"Prometheus answered {answer.status_code}."
        content = strict_json.loads(answer.content)
    except (httpx.HTTPError, strict_json.BadJson) as error:
        log.warning("no rules", reason=repr(error))
        return [], "Prometheus does not answer."
    groups: list[Any] = content["data"]["groups"] if content.get("status") == "success" else []
    found = [_rule(rule) for group in groups for rule in group["rules"] if rule["type"] == "alerting"]
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
