"""`python -m components.services`: names of the services that describe their REST operations with the kit."""

from __future__ import annotations

from components.services.registry import FRONT, SERVICES

print(*sorted(name for name in SERVICES if name != FRONT.name))
