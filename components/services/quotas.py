"""Passes quotas and retention from the configuration to services, as environment variables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from components.config.base import Change, DnsLabel, Section, setting


class OfTenant(Section):
    """Quotas of one tenant, in place of the general ones."""

    tenant: DnsLabel = setting(Change.SAFE, "ID of the tenant")


def quotas(each: Section, others: Sequence[OfTenant], name: Callable[[str], str] = str) -> dict[str, str]:
    """Variables with the general quotas and those of single tenants. `name` maps field names to the service's names."""
    # A field that a tenant's section leaves out keeps its general value for that tenant.
    own = {one.tenant: _named(one, name, unset=False) for one in others}
    return {"SERVICE_QUOTAS": json.dumps(_named(each, name, unset=True)), "SERVICE_QUOTAS_OF": json.dumps(own)}


def _named(section: Section, name: Callable[[str], str], *, unset: bool) -> dict[str, int]:
    found = section.model_dump(exclude={"tenant"}, exclude_unset=not unset)
    return {name(field): most for field, most in found.items()}


def kept(retention: Section) -> dict[str, str]:
    """Variables with a service's retention in days."""
    return {f"SERVICE_KEEP_{field.upper()}": str(days) for field, days in retention.model_dump().items()}
