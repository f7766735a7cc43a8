"""Prints an explanation of a request: who, by which way, what was checked, what it cost, and the proof."""

from __future__ import annotations

from rich.markup import escape

from cli import output
from cli.explained import (
    AuditLeaf,
    ExplainedRequest,
    Explanation,
    GuardVerdict,
    Invoiced,
    MadeAttempt,
    PolicyDecision,
    RecordedSpan,
)

_TITLE_WIDTH = 10


def show(found: Explanation) -> None:
    """Print all requests with the ID, newest first, and what could not be read."""
    for number, one in enumerate(found.requests):
        if number:
            output.line("")
        _request(found.request, one)
    for gap in found.gaps:
        output.line(f"[yellow]not shown[/] {_plain(gap)}", indent=_TITLE_WIDTH)


def _request(name: str, one: ExplainedRequest) -> None:
    unknown = "no model has answered" if one.time is None else "status not known"
    status = f"HTTP {one.status}" if one.status is not None else unknown
    took = "" if one.duration_ms is None else f" after {one.duration_ms:,.1f} ms"
    when = "" if one.time is None else f", {one.time:%Y-%m-%d %H:%M:%S} UTC"
    output.line(f"[bold]{_plain(name)}[/]: {status}{took}{when}")
    key = f"key {one.key}" if one.key else "a key without an ID"
    scopes = f" ({', '.join(one.scopes)})" if one.scopes else ""
    _line("caller", f"tenant {one.tenant or '-'}, user {one.user or '-'}, {key}{scopes}")
    _line("request", ", ".join(part for part in (one.operation, f"model {one.model}" if one.model else "") if part))
    _line("prompt", one.prompt)
    for number, decision in enumerate(one.policy):
        _line("" if number else "policy", _decision(decision))
    for number, verdict in enumerate(one.guard):
        _line("" if number else "guard", _verdict(verdict))
    _line("cache", f"answered with a kept answer: {one.cache} request" if one.cache else "")
    if one.strategy:
        _line("choice", f"by {one.strategy}")
        for candidate in one.candidates:
            chosen = ", chosen last" if candidate.target == one.target else ""
            broken = ", its circuit breaker was open" if candidate.broken else ""
            flight = f"{candidate.in_flight} in flight"
            _line("", f"{candidate.target}: score {candidate.score:g}, {flight}{broken}{chosen}")
    for number, attempt in enumerate(one.attempts):
        _line("" if number else "attempts", _attempt(attempt, one.model))
    if one.first_token_ms is not None:
        _line("stream", f"first token after {one.first_token_ms:,.1f} ms")
    counted = ", some counted by the Router" if one.estimated else ""
    _line("tokens", f"{one.input_tokens:,} input, {one.output_tokens:,} output{counted}")
    for number, line in enumerate(one.lines):
        price = f"{line.quantity:,} {line.kind} at {line.unit_usd} USD per {line.per:,} = {line.usd} USD"
        _line("" if number else "price", f"{price} ({line.price})")
    _line("unpriced", ", ".join(one.unpriced))
    _line("total", f"{one.usd} USD" if one.usd is not None else "")
    if one.invoice is not None:
        _invoice(one.invoice)
    for number, leaf in enumerate(one.audit):
        _line("" if number else "audit", _leaf(leaf), markup=True)
    _line("trace", one.trace)
    for span in one.spans:
        _line("", _span(span))


def _line(title: str, text: str, *, markup: bool = False) -> None:
    if text:
        shown = text if markup else _plain(text)
        output.line(f"  [dim]{escape(f'{title:{_TITLE_WIDTH}}')}[/] {shown}", indent=_TITLE_WIDTH + 3)


def _plain(text: str) -> str:
    """Text of services as it is, without markup or control characters, which could change a terminal's state."""
    return escape("".join(c if c.isprintable() else " " for c in text))


def _decision(decision: PolicyDecision) -> str:
    about = f" {decision.method} {decision.target}" if decision.method else ""
    overridden = f" instead of {decision.overridden}, reason: {decision.reason}" if decision.overridden else ""
    times = f", {decision.times:,} such requests within a minute" if decision.times > 1 else ""
    return f"{decision.outcome or 'content expired'}{about}, rule {decision.rule or '-'}{overridden}{times}"


def _verdict(verdict: GuardVerdict) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(verdict.kinds.items()))
    return f"{verdict.direction}: {verdict.action}" + (f" ({kinds})" if kinds else "")


def _attempt(attempt: MadeAttempt, model: str) -> str:
    marks = [mark for mark, given in (("hedge", attempt.hedge), ("continues the stream", attempt.continues)) if given]
    marks += [f"fallback {attempt.model}"] if attempt.model != model else []
    said = f": {attempt.reason}" if attempt.reason else ""
    times = f"from {attempt.begun_ms:,.1f} ms, for {attempt.duration_ms:,.1f} ms"
    return f"{attempt.target}, {times}: {attempt.outcome}{said}" + (f" ({', '.join(marks)})" if marks else "")


def _invoice(invoice: Invoiced) -> None:
    if invoice.number is None:
        _line("invoice", f"{invoice.period}, not issued yet")
        return
    _line("invoice", f"{invoice.period}, number {invoice.number}")
    for line in invoice.lines:
        _line("", f"line {line.quantity:,} {line.kind} of {line.events:,} requests, {line.usd} USD")


def _leaf(leaf: AuditLeaf) -> str:
    kind = leaf.type.removeprefix("dev.cogniforge.")
    state = f"[green]proven[/] in the log of {leaf.log_size:,} entries"
    if not leaf.verified:
        state = f"[red]not proven[/]: {_plain(leaf.reason)}"
    return f"entry {leaf.number:,} ({_plain(kind)}): {state}"


def _span(span: RecordedSpan) -> str:
    failed = ", failed" if span.failed else ""
    times = f"from {span.begun_ms:,.1f} ms, for {span.duration_ms:,.1f} ms"
    return f"{'  ' * span.depth}{span.service} {span.name}: {times}{failed}"
