"""Prints the names of services that declare REST operations with the kit: `python -m components.services`."""

from __future__ import annotations

from components.services.registry import FRONT, SERVICES

print(*sorted(name for name in SERVICES if name != FRONT.name))
