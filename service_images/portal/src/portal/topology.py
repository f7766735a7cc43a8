"""The enabled services and what they use, as their records state it."""

from __future__ import annotations

from collections.abc import Sequence

from kit.rest import Model


class Part(Model):
    """A service of the platform."""

    name: str
    title: str
    about: str = ""
    prefixes: tuple[str, ...] = ()
    """Paths at the gateway that belong to the service."""
    document: bool = False
    """Whether the gateway serves the service's OpenAPI document without a key."""
    asks: tuple[str, ...] = ()
    """Services that it calls."""
    reads: tuple[str, ...] = ()
    """Kafka topics that it reads."""
    writes: tuple[str, ...] = ()
    """Kafka topics that it writes, directly or through its outbox."""
    stores: tuple[str, ...] = ()
    """Parts of the data layer that hold its data."""
    letters: bool = False
    """Whether it keeps dead letters."""


def owner(parts: Sequence[Part], path: str) -> Part | None:
    """The service to which the gateway forwards a path: the one with the longest prefix. None: no service has it."""
    fitting = [(prefix, part) for part in parts for prefix in part.prefixes if _below(prefix, path)]
    return max(fitting, key=lambda found: len(found[0]))[1] if fitting else None


def _below(prefix: str, path: str) -> bool:
    return path.startswith(prefix) if prefix.endswith("/") else f"{path}/".startswith(f"{prefix}/")
