"""Audit: a log of all events that only grows."""

from __future__ import annotations

from components.config.base import Change, Section, setting
from components.services.quotas import kept
from components.services.record import (
    DEAD_LETTER_HANDLED,
    QUOTA_REACHED,
    TENANT_DELETED,
    TENANT_ERASED,
    Bundled,
    Prefix,
    ServiceRecord,
    Surroundings,
)


class AuditRetention(Section):
    """For how many days Audit keeps what entries tell; that something happened, and every proof, is kept for ever."""

    security_days: int = setting(
        Change.SAFE, "Tenants, keys, rights, policies, routes, operators' acts", default=3660, ge=35, le=36_500
    )
    money_days: int = setting(Change.SAFE, "Prices, credits, budgets, invoices", default=3660, ge=35, le=36_500)
    content_days: int = setting(Change.SAFE, "Prompts, documents, what Guardrails did", default=800, ge=35, le=36_500)
    usage_days: int = setting(Change.SAFE, "Each request to a model", default=400, ge=35, le=36_500)


class Audit(Bundled):
    """A log of all events that only grows."""

    retention: AuditRetention = setting(Change.SAFE, "How long contents are kept", default=AuditRetention())


def _variables(section: Audit, around: Surroundings) -> dict[str, str]:
    return {**kept(section.retention), "SERVICE_BACKUP_DAYS": str(around.data.backup_days)}


RECORD = ServiceRecord(
    "audit",
    title="Audit",
    about="A log of all events that only grows",
    position=7,
    section=Audit,
    prefixes=(Prefix("/v1/audit/"),),
    database=True,
    consumes=(
        "usage.recorded.v1",
        "route.changed.v1",
        "guard.decided.v1",
        "prompt.changed.v1",
        "document.changed.v1",
        QUOTA_REACHED,
        "user.changed.v1",
        "invoice.issued.v1",
        "billing.changed.v1",
        DEAD_LETTER_HANDLED,
        TENANT_DELETED,
    ),
    outbox=(TENANT_ERASED, DEAD_LETTER_HANDLED),
    follows=("tenants",),
    # The log is signed and sealed with these. With other ones, old checkpoints could not be verified, nor old entries
    # read.
    own_secrets=("signing", "sealing"),
    asks_for_keys=True,
    scopes=("audit",),
    variables=_variables,
)
