"""The last seconds of a process: it goes on serving, and asks its callers to connect elsewhere."""

from __future__ import annotations


class Drain:
    """Whether this process is about to stop."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """From now on every answer closes its connection."""
        self.begun = True


DRAIN = Drain()
"""Of this process: set by the server, read by the middleware."""
