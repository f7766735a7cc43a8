"""Billing: meters, budgets, invoices."""

from __future__ import annotations

from components.config.base import Change, Section, setting
from components.services.quotas import kept
from components.services.record import (
    DEAD_LETTER_HANDLED,
    TENANT_DELETED,
    TENANT_ERASED,
    Bundled,
    Prefix,
    ServiceRecord,
    Surroundings,
)


class BillingRetention(Section):
    """For how many days Billing keeps what is in an invoice that is issued."""

    names_days: int = setting(Change.SAFE, "Who used what", default=400, ge=35, le=36_500)
    usage_days: int = setting(Change.SAFE, "Each single use", default=800, ge=35, le=36_500)
    invoices_days: int = setting(Change.SAFE, "Invoices and credits; ask your law", default=3660, ge=365, le=36_500)


class Billing(Bundled):
    """Meters, budgets, invoices."""

    retention: BillingRetention = setting(Change.SAFE, "How long things are kept", default=BillingRetention())


def _variables(section: Billing, around: Surroundings) -> dict[str, str]:
    return kept(section.retention)


RECORD = ServiceRecord(
    "billing",
    title="Billing",
    about="Meters, budgets, invoices",
    position=6,
    section=Billing,
    prefixes=(Prefix("/v1/billing/"),),
    database=True,
    consumes=("usage.recorded.v1", TENANT_DELETED),
    outbox=("invoice.issued.v1", "billing.changed.v1", TENANT_ERASED, DEAD_LETTER_HANDLED),
    keeps=("budgets",),
    follows=("tenants",),
    asks_for_keys=True,
    scopes=("billing",),
    variables=_variables,
)
