"""How services receive what their sections say of quotas and of retention."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from components.config.base import Section


def quotas(each: Section, others: Sequence[Section], name: Callable[[str], str] = str) -> dict[str, str]:
    """Variables with the quotas of all tenants, and of those that have their own; `name` translates fields' names."""
    # What one tenant's section does not name holds for that tenant as for the others.
    own = {getattr(one, "tenant"): _named(one, name, unset=False) for one in others}  # noqa: B009
    return {"SERVICE_QUOTAS": json.dumps(_named(each, name, unset=True)), "SERVICE_QUOTAS_OF": json.dumps(own)}


def _named(section: Section, name: Callable[[str], str], *, unset: bool) -> dict[str, int]:
    found = section.model_dump(exclude={"tenant"}, exclude_unset=not unset)
    return {name(field): most for field, most in found.items()}


def kept(retention: Section) -> dict[str, str]:
    """Variables that say for how many days a service keeps things."""
    return {f"SERVICE_KEEP_{field.upper()}": str(days) for field, days in retention.model_dump().items()}
