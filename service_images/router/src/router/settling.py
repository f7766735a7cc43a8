"""Settles a request at its end: limits, metrics and usage events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router import counting, payload, trail

if TYPE_CHECKING:
    from router.answer import Answer

HTTP_OK = 200


def settle(exchange: Answer, status: int) -> None:
    """Settle a request that has ended in any way."""
    core, account, target = exchange.core, exchange.account, exchange.served_by
    cost, used = 0.0, (0, 0)
    if target is not None:
        reported = exchange.reported
        if reported is not None and reported[0] is not None and reported[1] is not None and not exchange.earlier:
            used = reported[0], reported[1]
        else:
            used = _used(exchange)
        exchange.used = used
        cost = target.cost(*used)
        if exchange.estimates:
            cause = "not_reported" if status == HTTP_OK else "cut_short"
            core.measures.estimated.values[exchange.model, target.label, cause] += 1
    if account is not None:
        account.settle(exchange.estimated, used[0] + used[1], exchange.held, cost)
    seconds = core.now() - exchange.started
    if exchange.span is not None:
        trail.answered(exchange)
    core.measures.end(exchange, status, seconds)
    if core.metering is not None and (target is not None or status == HTTP_OK):
        own = core.request_id().decode()
        label, grant = target.label if target is not None else "", core.accounts.known(exchange.digest)
        tried = trail.attempts(exchange, core.now()) if exchange.trail is not None else None
        core.metering.record(exchange, own, status, seconds, label, cost, grant, tried)


def _used(exchange: Answer) -> tuple[int, int]:
    """(input, output) tokens. They are counted here if some are not reported, or several targets have worked."""
    asked, said = exchange.reported or (None, None)
    if said is None and exchange.upstream_path == payload.EMBEDDINGS:
        said = 0
    exchange.estimates = asked is None or said is None or exchange.earlier > 0
    # The last target has also read the text that the targets before it have written.
    asked = counting.of_request(exchange.body) if asked is None else max(1, asked - exchange.earlier)
    if said is None:
        winner, body = exchange.winner, exchange.unreported
        said = counting.of_answer(body) if body is not None else winner.streamed() if winner is not None else 0
    return asked, said + exchange.earlier
