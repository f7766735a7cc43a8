"""Collects what Audit and Billing know about one request, verifies it, and makes it one explanation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from cli import audit_log, gateway
from cli.explained import (
    AuditLeaf,
    Candidate,
    ExplainedRequest,
    Explanation,
    GuardVerdict,
    Invoiced,
    InvoiceLine,
    MadeAttempt,
    PriceLine,
)
from components.services.registry import LEDGER, SERVICES, USAGE
from local.errors import LocalError

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_USAGE, _DECIDED = "dev.cogniforge.usage.recorded.v1", "dev.cogniforge.guard.decided.v1"
_AUDIT, _BILLING = LEDGER.name, USAGE.name
_ACTIONS = ("allow", "flag", "redact", "unchecked", "unanswered", "block")
"""Verdicts of Guardrails, the strictest one last."""
Json = dict[str, Any]


def collect(client: httpx.Client, stack_name: str, request: str, log_key: str = "") -> Explanation:
    """Explain a request. `log_key`: trusted public key of the audit log; empty: the one that Audit reports now.

    Raises LocalError if nobody knows the request, or if it belongs to another tenant.
    """
    if not _ID.fullmatch(request):
        raise LocalError(
            f"{request[:40]!a} is not the ID of a request",
            reason="an ID has 1 to 128 letters, digits, dots, hyphens and underscores",
            fix="use the value of the header x-request-id of the answer",
        )
    gaps: list[str] = []
    logged = _read(client, _AUDIT, request, gaps)
    costs = _read(client, _BILLING, request, gaps)
    if logged is None and costs is None:
        raise LocalError(
            f"the request {request} is not known",
            reason="; ".join(gaps) or "Audit and Billing do not know it, or it belongs to another tenant",
            fix="check the ID; a request is recorded some seconds after its end",
        )
    found = _grouped(logged, costs, _trusted(client, logged, log_key))
    if any(part and part["more"] for part in (logged, costs)):
        gaps.append("older requests with the same ID are not shown")
    return Explanation(stack=stack_name, request=request, requests=found, gaps=gaps)


def _read(client: httpx.Client, service: str, request: str, gaps: list[str]) -> Json | None:
    """A service's records about the request; None if it has none. Why they could not be read is added to the gaps."""
    try:
        return gateway.ask(client, "GET", gateway.path(f"{service}/requests", request))
    except gateway.Refused as error:
        if (error.status, error.param) != (404, "request"):
            gaps.append(f"{SERVICES[service].title}: HTTP {error.status}: {error.reason}")
    return None


def _trusted(client: httpx.Client, logged: Json | None, log_key: str) -> Any:
    """The signed checkpoint of the log, or the reason why it is not verified."""
    if logged is None:
        return ""
    try:
        return audit_log.checkpoint(logged["checkpoint"], log_key or _log_key(client))
    except (audit_log.Unverified, LocalError) as error:
        return str(error)


def _log_key(client: httpx.Client) -> str:
    answer = client.get(f"{_AUDIT}/key")
    if not answer.is_success:
        raise LocalError(f"Audit does not report its public key: HTTP {answer.status_code}")
    return answer.text


def _grouped(logged: Json | None, costs: Json | None, trusted: Any) -> list[ExplainedRequest]:
    """One explanation for each request: its usage, with the verdicts of Guardrails on the same trace."""
    entries = [(entry, audit_log.shown(entry)) for entry in (logged or {"entries": ()})["entries"]]
    paid = {(cost["source"], cost["event"]): cost for cost in (costs or {"requests": ()})["requests"]}
    verdicts: dict[tuple[str, str], list[tuple[Json, Json]]] = {}
    for entry, event in entries:
        if event["type"] == _DECIDED:
            verdicts.setdefault((event["tenant"], _trace(event)), []).append((entry, event))
    found: list[ExplainedRequest] = []
    for entry, event in entries:
        if event["type"] != _USAGE:
            continue
        decided = verdicts.pop((event["tenant"], _trace(event)), [])
        cost = paid.pop((event["source"], event["id"]), None)
        leaves = [_leaf(one, trusted) for one, _ in [(entry, event), *reversed(decided)]]
        found.append(_explained(event, [decision for _, decision in decided], cost, leaves))
    for cost in paid.values():  # Audit is away, or its entry is still on the way
        found.append(_explained({}, [], cost, []))
    for decided in verdicts.values():  # no model has answered, since the request was blocked
        leaves = [_leaf(one, trusted) for one, _ in reversed(decided)]
        found.append(_explained({}, [decision for _, decision in decided], None, leaves))
    return found


def _trace(event: Json) -> str:
    """Trace ID of an entry's traceparent; empty if it has none."""
    parts = str(event.get("trace", "")).split("-")
    return parts[1] if len(parts) == 4 else ""


def _leaf(entry: Json, trusted: Any) -> AuditLeaf:
    reason, size = trusted if isinstance(trusted, str) else "", 0
    if not isinstance(trusted, str):
        size = trusted.size
        try:
            audit_log.verify(entry, trusted)
        except (audit_log.Unverified, ValueError, KeyError) as error:
            reason = str(error)
    kind = str(audit_log.shown(entry)["type"])
    return AuditLeaf(number=entry["number"], type=kind, verified=not reason, reason=reason, log_size=size)


def _explained(usage: Json, decided: list[Json], cost: Json | None, leaves: list[AuditLeaf]) -> ExplainedRequest:
    """`usage`: entry of the usage event, or empty; `decided`: entries of Guardrails' decisions, newest first."""
    data: Json = usage.get("data") or {}
    about: Json = usage or (decided[0] if decided else {})
    paid: Json = cost or {}
    choice: Json = data.get("choice") or {}
    when = usage.get("time") or paid.get("time")
    return ExplainedRequest(
        tenant=about.get("tenant") or paid.get("tenant", ""),
        user=data.get("user") or paid.get("user", ""),
        key=data.get("key", ""),
        scopes=list(data.get("scopes", ())),
        time=datetime.fromisoformat(when) if when else None,
        model=data.get("model") or paid.get("model", ""),
        operation=data.get("operation") or paid.get("operation", ""),
        status=data.get("status"),
        duration_ms=data.get("duration_ms", paid.get("duration_ms")),
        first_token_ms=data.get("first_token_ms"),
        trace=_trace(about),
        cache=data.get("cache", ""),
        prompt=data.get("prompt", ""),
        target=data.get("target", ""),
        strategy=choice.get("strategy", ""),
        candidates=[
            Candidate(
                target=one["target"], score=one["score"], in_flight=one["in_flight"], broken=one.get("broken", False)
            )
            for one in choice.get("targets", ())
        ],
        attempts=_attempts(data),
        guard=_guard(data.get("guard") or {}, decided),
        input_tokens=data.get("input_tokens", paid.get("input_tokens", 0)),
        output_tokens=data.get("output_tokens", paid.get("output_tokens", 0)),
        estimated=data.get("estimated", False),
        lines=[_line(line) for line in paid.get("lines", ())],
        unpriced=list(paid.get("unpriced", ())),
        usd=paid.get("usd"),
        invoice=_invoice(paid["invoice"]) if paid else None,
        audit=leaves,
        spans=[],
    )


def _attempts(data: Json) -> list[MadeAttempt]:
    """The attempts. Events do not list a first attempt that has answered; their other fields describe it."""
    if "attempts" not in data:
        if not data.get("target"):
            return []
        only = {"target": data["target"], "outcome": "answered", "duration_ms": data.get("duration_ms", 0)}
        data = {"model": data["model"], "attempts": [{**only, "begun_ms": 0}]}
    return [
        MadeAttempt(
            target=one["target"],
            model=one.get("model", data.get("model", "")),
            begun_ms=one["begun_ms"],
            duration_ms=one["duration_ms"],
            outcome=one["outcome"],
            reason=one.get("reason", ""),
            hedge=one.get("hedge", False),
            continues=one.get("continues", False),
        )
        for one in sorted(data["attempts"], key=lambda one: one["begun_ms"])
    ]


def _guard(verdicts: Mapping[str, str], decided: list[Json]) -> list[GuardVerdict]:
    """The strictest verdict of each direction, with the numbers of findings of all of Guardrails' decisions."""
    kinds: dict[str, dict[str, int]] = {}
    strictest = dict(verdicts)
    for event in reversed(decided):
        data: Json = event.get("data") or {}
        direction = data.get("direction", "")
        counts = kinds.setdefault(direction, {})
        for kind, count in (data.get("kinds") or {}).items():
            counts[kind] = counts.get(kind, 0) + count
        actions = [strictest.get(direction, "allow"), data.get("action", "allow")]
        strictest[direction] = max(actions, key=lambda one: _ACTIONS.index(one) if one in _ACTIONS else len(_ACTIONS))
    return [
        GuardVerdict(direction=direction, action=action, kinds=kinds.get(direction, {}))
        for direction, action in sorted(strictest.items())
        if direction
    ]


def _line(line: Json) -> PriceLine:
    whose, model = line["price_tenant"] or "all tenants", line["price_model"]
    price = f"{whose}, {'any model' if model == '*' else model}, since {line['price_begins']}"
    fields = {name: line[name] for name in ("kind", "quantity", "unit_usd", "per", "usd")}
    return PriceLine(**fields, price=price)


def _invoice(invoice: Json) -> Invoiced:
    lines = [
        InvoiceLine(kind=one["kind"], quantity=one["quantity"], events=one["events"], usd=one["usd"])
        for one in invoice["lines"]
    ]
    return Invoiced(period=invoice["period"], number=invoice["number"], lines=lines)
