"""Mine: the reader's key, keys of the tenant, budget, spend, forecast and invoices."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kit.errors import ApiError
from kit.rest import Model
from pydantic import Field
from starlette.responses import Response

from portal import charts, numbers
from portal.gateway import Answer, address
from portal.sessions import LASTS_S
from portal.view import PREFIX, Views, Visit, done, paged

PATH = f"{PREFIX}/mine"
SCOPES = (
    ("inference", "ask models"),
    ("embeddings", "compute vectors of texts"),
    ("guardrails", "check texts"),
    ("prompts", "read and change prompts"),
    ("retrieval", "add and search files"),
    ("billing", "see usage and invoices"),
    ("audit", "see the audit log"),
    ("manage", "manage users and keys"),
)
"""Scopes that a tenant's key may have, with their meaning."""

_MOST = 50
"""Users and keys that the page lists, those with most tokens."""


class Chosen(Model):
    """What the page shows."""

    period: str = Field(default="", pattern=r"^(20[0-9]{2}-(0[1-9]|1[0-2]))?$", description="Month, such as 2026-11")
    page: int = Field(default=1, ge=1, le=100_000, description="Page of the list of keys")


class Mine:
    """The page and its actions."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """What the reader's key allows, and what it costs."""
        session, now = visit.session, datetime.now(UTC)
        periods = numbers.periods(now.date())
        period = visit.call.query.period or periods[0]
        paths = {"about": "/v1/self", "tenant": address("/v1/tenants/{}", session.tenant)}
        if session.allows("manage"):
            paths["keys"] = address("/v1/tenants/{}/keys", session.tenant)
        if billed := session.allows("billing") and visit.gateway.has("/v1/billing/"):
            paths |= self._billing(session.tenant, period)
        answers = dict(zip(paths, await visit.api.all(*paths.values()), strict=True))
        keys = answers["keys"].items() if "keys" in answers else []
        keys = sorted(keys, key=lambda key: str(key.get("created")), reverse=True)
        return await self._views.show(
            visit,
            "mine.html",
            **answers,
            paged=paged(keys, visit.call.query.page),
            until=datetime.fromtimestamp(session.began + LASTS_S, UTC).isoformat(),
            billed=billed,
            period=period,
            periods=periods,
            scopes=[(scope, meaning) for scope, meaning in SCOPES if session.allows(scope)],
            **(self._money(answers, period, now) if billed else {}),
        )

    @staticmethod
    def _billing(tenant: str, period: str) -> dict[str, str]:
        begin, end = numbers.bounds(period)
        meter: dict[str, Any] = {"tenant": tenant, "begin": begin, "end": end}
        path = "/v1/billing/meters"
        return {
            "entitlement": address("/v1/billing/tenants/{}/entitlement", tenant),
            "invoice": address("/v1/billing/tenants/{}/invoices/{}", tenant, period),
            "requests": address(path, aggregation="COUNT", field="model", group="day", **meter),
            "read": address(path, aggregation="SUM", field="input_tokens", group="user", **meter),
            "written": address(path, aggregation="SUM", field="output_tokens", group="user", **meter),
            "read_by_key": address(path, aggregation="SUM", field="input_tokens", group="key", **meter),
            "written_by_key": address(path, aggregation="SUM", field="output_tokens", group="key", **meter),
        }

    @staticmethod
    def _money(answers: dict[str, Answer], period: str, now: datetime) -> dict[str, Any]:
        """Spend by model and user, a chart of the days, and the forecast of the present month."""
        models: dict[str, dict[str, Any]] = {}
        for line in answers["invoice"].get("lines", []):
            one = models.setdefault(line["model"], {"model": line["model"], "usd": Decimal(0), "input": 0, "output": 0})
            one["usd"] += numbers.amount(line["usd"]) or 0
            if line["kind"] in one:
                one[line["kind"]] += line["quantity"]
        days = {row["group"]: row["value"] or 0.0 for row in answers["requests"].items("values")}
        chart = charts.bars("Requests a day", "requests", [(day, days.get(day, 0.0)) for day in numbers.days(period)])
        people = _tokens(answers["read"], answers["written"])
        keys = _tokens(answers["read_by_key"], answers["written_by_key"])
        listed = answers["keys"].items() if "keys" in answers else []
        known = {key["id"]: f"{key['name']} ({key['hint']})" for key in listed}
        gross = numbers.amount(answers["invoice"].get("gross_usd"))
        present = period == f"{now:%Y-%m}"
        return {
            "models": sorted(models.values(), key=lambda one: -one["usd"]),
            "chart": chart,
            "people": people[:_MOST],
            "people_count": len(people),
            "by_key": [{**one, "shown": known.get(one["group"], one["group"])} for one in keys[:_MOST]],
            "keys_count": len(keys),
            "forecast": numbers.forecast(gross, now) if present and gross is not None else None,
            "budget": numbers.amount(answers["entitlement"].get("budget_usd")),
        }

    async def make_key(self, visit: Visit) -> Response:
        """Create a key with some of the reader's scopes, and show it once."""
        form, session = visit.form, visit.session
        scopes = [scope for scope, _ in SCOPES if form.get(f"scope-{scope}")]
        if not scopes:
            # The API gives a key without scopes all that its maker has.
            raise ApiError(400, "Choose at least one scope for the key.", param="scopes")
        body: dict[str, Any] = {"name": form.get("name", "").strip(), "scopes": scopes}
        if expires := form.get("expires", ""):
            body["expires"] = f"{expires}T00:00:00Z"
        made = await visit.api.call("POST", address("/v1/tenants/{}/keys", session.tenant), body)
        if not made.ok:
            return await self._views.refuse(visit, made, PATH)
        return await self._views.show(visit, "key.html", made=made)

    async def revoke(self, visit: Visit) -> Response:
        """Revoke a key, and the keys that were made with it."""
        path = address("/v1/tenants/{}/keys/{}", visit.session.tenant, visit.form.get("key", ""))
        gone = await visit.api.call("DELETE", path)
        return done(f"{PATH}#keys") if gone.ok else await self._views.refuse(visit, gone, PATH)


def _tokens(read: Answer, written: Answer) -> list[dict[str, Any]]:
    """Tokens read and written by group, the largest first."""
    output = {row["group"]: row["value"] or 0.0 for row in written.items("values")}
    found = [
        {
            "shown": row["group"],
            "group": row["group"],
            "input": row["value"] or 0.0,
            "output": output.get(row["group"], 0.0),
        }
        for row in read.items("values")
    ]
    return sorted(found, key=lambda one: -(one["input"] + one["output"]))
