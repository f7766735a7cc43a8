"""What happened to a request besides its answer: the attempts at targets, and what they were chosen from.

Only what differs from the usual case is kept: most requests have one attempt, which the usage event describes already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.tried import REASON_CHARACTERS, Outcome, Tried

if TYPE_CHECKING:
    from router.request import Attempt, Request


def note(exchange: Request, leg: Attempt, now: float, outcome: Outcome, reason: str = "") -> None:
    """Keep an attempt that has ended now. An attempt is kept once, with its first outcome."""
    if leg.noted:
        return
    leg.noted = True
    if leg.call is not None:
        leg.call.end(outcome, reason)
    if exchange.trail is None:
        exchange.trail = []
    exchange.trail.append(
        Tried(
            leg.state.label,
            leg.model,
            round((leg.started - exchange.started) * 1000, 3),
            round((now - leg.started) * 1000, 3),
            outcome.value,
            reason[:REASON_CHARACTERS],
            leg.hedge,
            any(one.outcome == Outcome.INTERRUPTED for one in exchange.trail),
        )
    )


def attempts(exchange: Request, now: float) -> list[Tried] | None:
    """All attempts in the order of their end; None if the first one has answered."""
    if exchange.trail is not None and exchange.winner is not None:
        note(exchange, exchange.winner, now, Outcome.ANSWERED)
    return exchange.trail


def answered(exchange: Request) -> None:
    """End the span of the attempt that has answered the request, if it has not ended in another way."""
    winner = exchange.winner
    if winner is not None and winner.call is not None and not winner.noted:
        winner.call.end(Outcome.ANSWERED)
        winner.call = None
