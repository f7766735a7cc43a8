"""Draining: before it stops, a process still serves requests and asks callers to reconnect elsewhere."""

from __future__ import annotations


class Drain:
    """Drain state of this process."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """Close the connection with each answer from now on."""
        self.begun = True


DRAIN = Drain()
"""State of this process. The server sets it, the middleware reads it."""
