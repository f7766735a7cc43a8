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
    """Days that Billing keeps records that an issued invoice covers."""

    names_days: int = setting(Change.SAFE, "Names of users and keys in usage records", default=400, ge=35, le=36_500)
    usage_days: int = setting(Change.SAFE, "Usage records of single requests", default=800, ge=35, le=36_500)
    invoices_days: int = setting(
        Change.SAFE, "Invoices and credits; the law may set a minimum", default=3660, ge=365, le=36_500
    )


class Billing(Bundled):
    """Usage metering, budgets and invoices."""

    retention: BillingRetention = setting(
        Change.SAFE, "Retention of usage records and invoices", default=BillingRetention()
    )


def _variables(section: Billing, around: Surroundings) -> dict[str, str]:
    return kept(section.retention)


RECORD = ServiceRecord(
    "billing",
    title="Billing",
    about="Usage metering, budgets and invoices",
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
