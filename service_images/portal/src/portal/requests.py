"""Requests: a search of the tenant's requests, and one request's whole life."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from kit.ledger import life, proof
from kit.rest import Model
from pydantic import Field
from starlette.responses import RedirectResponse, Response

from portal.gateway import Answer, address
from portal.recorded import Recorder, TraceOf
from portal.view import PREFIX, Views, Visit

PATH = f"{PREFIX}/requests"
_ROWS = 50
_DAYS = 7
"""Days of the time range that the page begins with, the present one included."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TEXT = r"^[^\x00]*$"
_STATUS = "^([1-5][0-9][0-9]|[1-5]xx)?$"
_DAY = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"
STATUSES = (("", "any"), ("2xx", "answered (2xx)"), ("4xx", "refused (4xx)"), ("429", "too many (429)"),
            ("5xx", "failed (5xx)"))  # fmt: skip
"""Statuses that the page offers; the address takes each other one, too."""
_BILLING, _AUDIT = "/v1/billing/requests", "/v1/audit/requests"
_AUDIT_KEY = "/v1/audit/key"


class Sought(Model):
    """What is searched for."""

    id: str = Field(default="", max_length=200, pattern=_TEXT, description="Request ID; shows this request")
    tenant: str = Field(default="", max_length=200, pattern=_TEXT, description="Tenant, for operators")
    model: str = Field(default="", max_length=200, pattern=_TEXT, description="Model")
    status: str = Field(default="", pattern=_STATUS, description="HTTP status, such as 429 or 5xx")
    begin: str = Field(default="", pattern=_DAY, description="First day, in UTC")
    end: str = Field(default="", pattern=_DAY, description="Last day, in UTC")
    after: str = Field(default="", max_length=2000, pattern="^[A-Za-z0-9_-]*$", description="Where the page begins")


class Chosen(Model):
    """The request that is shown."""

    id: str = Field(max_length=128, pattern=f"^{_ID.pattern}$", description="Request ID")


class Requests:
    """The pages."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """Requests of a time range, newest first; with an ID, the page of this request."""
        sought: Sought = visit.call.query
        name = sought.id.strip()
        if _ID.fullmatch(name):
            return RedirectResponse(address(f"{PATH}/one", id=name), 303)
        problem = "An ID has 1 to 128 letters, digits, dots, hyphens and underscores." if name else ""
        found, days = None, _days(sought.begin, sought.end)
        if days is None:
            problem = problem or "A day does not exist, or the last day is before the first one."
        elif visit.gateway.has(_BILLING):
            given = {"tenant": sought.tenant if visit.session.operator else "", "model": sought.model}
            begin, end = (f"{day.isoformat()}T00:00:00Z" for day in (days[0], days[1] + timedelta(days=1)))
            more = {"status": sought.status, "after": sought.after, "limit": _ROWS}
            found = await visit.api.get(address(_BILLING, **given, begin=begin, end=end, **more))
        shown = days or (sought.begin, sought.end)
        filters = {**sought.model_dump(exclude={"after", "id"}), "begin": str(shown[0]), "end": str(shown[1])}
        following = found.get("next") if found is not None and found.ok else None
        return await self._views.show(
            visit,
            "requests.html",
            400 if problem else 200,
            sought=filters,
            id=name,
            problem=problem,
            statuses=STATUSES if sought.status in dict(STATUSES) else (*STATUSES, (sought.status, sought.status)),
            found=found,
            rows=[_row(one) for one in found.items("requests")] if found is not None and found.ok else [],
            first=address(PATH, **filters) if sought.after else "",
            following=address(PATH, **filters, after=following) if following else "",
        )

    async def one(self, visit: Visit) -> Response:
        """What Audit and Billing know about a request: who, which way, verdicts, price, and the proof."""
        name: str = visit.call.query.id
        there = {path: visit.gateway.has(path) for path in (_AUDIT, _BILLING)}
        paths = [address(f"{path}/{{}}", name) for path in (_AUDIT, _BILLING) if there[path]]
        answers = await visit.api.all(*paths, *([_AUDIT_KEY] if there[_AUDIT] else []))
        key = answers.pop() if there[_AUDIT] else None
        logged = answers.pop(0) if there[_AUDIT] else None
        costs = answers.pop(0) if there[_BILLING] else None
        lives = life.requests(_content(logged), _content(costs), _trusted(logged, key))
        recorded = await self._recorded(visit, lives)
        unknown = not lives and all(one is None or one.status == 404 for one in (logged, costs))
        return await self._views.show(
            visit,
            "request.html",
            404 if unknown else 200,
            id=name,
            lives=lives,
            recorded=recorded,
            unknown=unknown,
            more=any(one is not None and one.get("more") for one in (logged, costs)),
            sources=[("Audit", logged), ("Billing", costs)],
            away=[one for one in (logged, costs, key) if one is not None and one.problem and one.status != 404],
        )

    async def _recorded(self, visit: Visit, lives: list[dict[str, Any]]) -> dict[str, TraceOf]:
        """Spans and lines by trace. Others than operators get none."""
        servers = self._views.servers
        return await Recorder(servers.jaeger, servers.log_store).of(lives) if visit.session.operator else {}


def _row(found: dict[str, Any]) -> dict[str, Any]:
    """A request, with the address of its page. Programs choose the IDs, and some IDs cannot be asked for."""
    name = str(found.get("request", ""))
    return {**found, "page": address(f"{PATH}/one", id=name) if _ID.fullmatch(name) else ""}


def _days(begin: str, end: str) -> tuple[date, date] | None:
    """First and last day of the search. None: there are no such days."""
    try:
        last = date.fromisoformat(end) if end else datetime.now(UTC).date()
        first = date.fromisoformat(begin) if begin else last - timedelta(days=_DAYS - 1)
        return (first, last) if first <= last and last < date.max else None
    except (ValueError, OverflowError):
        return None


def _content(answer: Answer | None) -> dict[str, Any] | None:
    return answer.content if answer is not None and answer.ok and isinstance(answer.content, dict) else None


def _trusted(logged: Answer | None, key: Answer | None) -> Any:
    """The signed checkpoint of the log, or the reason why it is not verified."""
    if logged is None or not logged.ok or key is None:
        return ""
    if not key.ok:
        return key.problem
    try:
        return proof.checkpoint(str(logged.get("checkpoint", "")), key.text)
    except proof.Unverified as error:
        return str(error)
