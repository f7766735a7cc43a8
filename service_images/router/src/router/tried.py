"""One attempt at a target, as the usage event describes it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

REASON_CHARACTERS = 200


class Outcome(StrEnum):
    """How an attempt has ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    """Without an answer."""
    INTERRUPTED = "interrupted"
    """In the middle of a stream; another target continues it, if possible."""
    TIMED_OUT = "timed-out"
    OVERTAKEN = "overtaken"
    """Another target that was called at the same time has answered first."""
    STOPPED = "stopped"
    """By Guardrails, or because the client has disconnected."""


class Tried(msgspec.Struct, omit_defaults=True):
    """One attempt, as in kit/events/usage.recorded.v1.json."""

    target: str
    model: str
    """Model of the route: the requested one, or a fallback."""
    begun_ms: float
    """Milliseconds after the beginning of the request."""
    duration_ms: float
    outcome: str
    reason: str = ""
    hedge: bool = False
    """Whether it was begun while another attempt was running."""
    continues: bool = False
    """Whether it continued the interrupted stream of another target."""
