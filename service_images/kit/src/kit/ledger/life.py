"""What Audit's entries and Billing's records say about one request ID: who, which way, verdicts, price and proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import note, proof

_USAGE, _DECIDED = "dev.cogniforge.usage.recorded.v1", "dev.cogniforge.guard.decided.v1"
_POLICY = "dev.cogniforge.policy.decided.v1"
_ACTIONS = ("allow", "flag", "redact", "unchecked", "unanswered", "block")
"""Verdicts of Guardrails, the strictest one last."""
Json = dict[str, Any]


def requests(logged: Json | None, costs: Json | None, trusted: note.Checkpoint | str) -> list[Json]:
    """The requests with one ID, newest first: their usage, with the verdicts of Guardrails on the same trace.

    `logged` and `costs`: answers of Audit and Billing about the ID; None: there is none. `trusted`: the checkpoint that
    the entries are verified with, or the reason why they are not. Fields: as in the document of `forge explain`, except
    for its spans; `time` is text as the services report it.
    """
    entries = [(entry, proof.shown(entry)) for entry in (logged or {"entries": ()})["entries"]]
    paid = {(cost["source"], cost["event"]): cost for cost in (costs or {"requests": ()})["requests"]}
    verdicts: dict[tuple[str, str], list[tuple[Json, Json]]] = {}
    policies: dict[str, list[tuple[Json, Json]]] = {}
    for entry, event in entries:
        if event["type"] == _POLICY:
            policies.setdefault(event["tenant"], []).append((entry, event))
        if event["type"] == _DECIDED:
            verdicts.setdefault((event["tenant"], _trace(event)), []).append((entry, event))
    found: list[Json] = []
    for entry, event in entries:
        if event["type"] != _USAGE:
            continue
        decided = verdicts.pop((event["tenant"], _trace(event)), [])
        cost = paid.pop((event["source"], event["id"]), None)
        ruled = policies.pop(event["tenant"], [])
        leaves = [_leaf(one, trusted) for one, _ in [(entry, event), *reversed(decided), *ruled]]
        found.append(_explained(event, [decision for _, decision in decided], cost, leaves, _events(ruled)))
    for cost in paid.values():  # Audit is away, or its entry is still on the way
        found.append(_explained({}, [], cost, []))
    for decided in verdicts.values():  # no model has answered, since the request was blocked
        leaves = [_leaf(one, trusted) for one, _ in reversed(decided)]
        found.append(_explained({}, [decision for _, decision in decided], None, leaves))
    for ruled in policies.values():  # the gateway has refused the request, or it was not one for a model
        found.append(_explained({}, [], None, [_leaf(one, trusted) for one, _ in ruled], _events(ruled)))
    return found


def _events(found: list[tuple[Json, Json]]) -> list[Json]:
    return [event for _, event in found]


def _trace(event: Json) -> str:
    """Trace ID of an entry's traceparent; empty if it has none."""
    parts = str(event.get("trace", "")).split("-")
    return parts[1] if len(parts) == 4 else ""


def _leaf(entry: Json, trusted: note.Checkpoint | str) -> Json:
    reason, size = trusted if isinstance(trusted, str) else "", 0
    if not isinstance(trusted, str):
        size = trusted.size
        try:
            proof.verify(entry, trusted)
        except (proof.Unverified, ValueError, KeyError) as error:
            reason = str(error)
    kind = str(proof.shown(entry)["type"])
    return {"number": entry["number"], "type": kind, "verified": not reason, "reason": reason, "log_size": size}


def _explained(
    usage: Json, decided: list[Json], cost: Json | None, leaves: list[Json], ruled: Sequence[Json] = ()
) -> Json:
    """`usage`: entry of the usage event, or empty; `decided`: entries of Guardrails' decisions, newest first; `ruled`:
    entries of the gateway's policy, newest first.
    """
    data: Json = usage.get("data") or {}
    others = [*decided, *ruled]
    about: Json = usage or (others[0] if others else {})
    policy: list[Json] = [event.get("data") or {} for event in ruled]
    ruling: Json = policy[0] if policy else {}
    paid: Json = cost or {}
    choice: Json = data.get("choice") or {}
    return {
        "tenant": about.get("tenant") or paid.get("tenant", ""),
        "user": data.get("user") or paid.get("user", ""),
        "key": data.get("key") or ruling.get("key", ""),
        "scopes": list(data.get("scopes", ())),
        "time": usage.get("time") or paid.get("time"),
        "model": data.get("model") or paid.get("model", ""),
        "operation": data.get("operation") or paid.get("operation", ""),
        "status": data.get("status", paid.get("status") or ruling.get("status")),
        "duration_ms": data.get("duration_ms", paid.get("duration_ms")),
        "first_token_ms": data.get("first_token_ms"),
        "trace": _trace(about),
        "cache": data.get("cache", ""),
        "prompt": data.get("prompt", ""),
        "target": data.get("target", ""),
        "strategy": choice.get("strategy", ""),
        "candidates": [
            {
                "target": one["target"],
                "score": one["score"],
                "in_flight": one["in_flight"],
                "broken": one.get("broken", False),
            }
            for one in choice.get("targets", ())
        ],
        "attempts": _attempts(data),
        "policy": [_rule(one) for one in policy],
        "guard": _guard(data.get("guard") or {}, decided),
        "input_tokens": data.get("input_tokens", paid.get("input_tokens", 0)),
        "output_tokens": data.get("output_tokens", paid.get("output_tokens", 0)),
        "estimated": data.get("estimated", False),
        "lines": [_line(line) for line in paid.get("lines", ())],
        "unpriced": list(paid.get("unpriced", ())),
        "usd": paid.get("usd"),
        "invoice": _invoice(paid["invoice"]) if paid else None,
        "audit": leaves,
    }


def _attempts(data: Json) -> list[Json]:
    """The attempts. Events do not list a first attempt that has answered; their other fields describe it."""
    if "attempts" not in data:
        if not data.get("target"):
            return []
        only = {"target": data["target"], "outcome": "answered", "duration_ms": data.get("duration_ms", 0)}
        data = {"model": data["model"], "attempts": [{**only, "begun_ms": 0}]}
    return [
        {
            "target": one["target"],
            "model": one.get("model", data.get("model", "")),
            "begun_ms": one["begun_ms"],
            "duration_ms": one["duration_ms"],
            "outcome": one["outcome"],
            "reason": one.get("reason", ""),
            "hedge": one.get("hedge", False),
            "continues": one.get("continues", False),
        }
        for one in sorted(data["attempts"], key=lambda one: one["begun_ms"])
    ]


def _guard(verdicts: Mapping[str, str], decided: list[Json]) -> list[Json]:
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
        {"direction": direction, "action": action, "kinds": kinds.get(direction, {})}
        for direction, action in sorted(strictest.items())
        if direction
    ]


def _rule(data: Json) -> Json:
    """A decision of the gateway's policy. The content of an entry may have expired."""
    texts = {name: data.get(name, "") for name in ("outcome", "rule", "overridden", "reason", "method", "target")}
    return {**texts, "times": data.get("times", 1)}


def _line(line: Json) -> Json:
    whose, model = line["price_tenant"] or "all tenants", line["price_model"]
    price = f"{whose}, {'any model' if model == '*' else model}, since {line['price_begins']}"
    fields = {name: line[name] for name in ("kind", "quantity", "unit_usd", "per", "usd")}
    return {**fields, "price": price}


def _invoice(invoice: Json) -> Json:
    lines = [
        {"kind": one["kind"], "quantity": one["quantity"], "events": one["events"], "usd": one["usd"]}
        for one in invoice["lines"]
    ]
    return {"period": invoice["period"], "number": invoice["number"], "lines": lines}
