"""Publishes decisions for the audit log, without the text and the findings themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kit import events, telemetry
from kit.guard_policy import Action, Direction

TOPIC = "guard.decided.v1"
Send = Callable[[str, str, dict[str, object]], None]


class Decisions:
    """Publishes an event for every decision except "allow", with the trace of its request."""

    def __init__(self, send: Send | None) -> None:
        self._send = send

    def tell(
        self, tenant: str, direction: Direction, action: Action, kinds: Mapping[str, int], request: str = ""
    ) -> None:
        """Publish a decision. `kinds`: number of findings by kind; `request`: ID of the request for a model."""
        if self._send is None or action is Action.ALLOW:
            return
        data: dict[str, object] = {"tenant": tenant or "default", "direction": direction.value, "action": action.word}
        data["kinds"] = dict(kinds)
        about = events.request(request) if request else tenant or "default"
        self._send(TOPIC, tenant, events.event(TOPIC, "guardrails", about, data, telemetry.traceparent()))
