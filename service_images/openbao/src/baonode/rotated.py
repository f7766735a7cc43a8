"""What a rotation reports about one secret."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Rotated:
    """State of the logins of one service for one data server, of a key, or of a family of keys."""

    secret: str
    """<system>/<service>, or <service>/<key>."""
    rotations: int = 0
    at: str = ""
    """Time of the last rotation (RFC 3339); empty: never."""
    logins: int = 0
    """Logins that are in use; 0 for keys."""
    ended: int = 0
    """Logins that belonged to no pod, and were ended here."""
    problem: str = ""
