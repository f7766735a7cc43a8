"""Audit: an append-only log of all events."""

from __future__ import annotations

from components.config.base import Change, Section, setting
from components.services.quotas import kept
from components.services.record import (
    DEAD_LETTER_HANDLED,
    QUOTA_REACHED,
    TENANT_DELETED,
    TENANT_ERASED,
    Bundled,
    KeyUse,
    Prefix,
    ServiceRecord,
    Surroundings,
)


class AuditRetention(Section):
    """Days that Audit keeps the content of entries. The entries themselves and their proofs are kept forever."""

    security_days: int = setting(
        Change.SAFE,
        "Entries about tenants, keys, rights, policies, routes and operators' actions",
        default=3660,
        ge=35,
        le=36_500,
    )
    money_days: int = setting(
        Change.SAFE, "Entries about prices, credits, budgets and invoices", default=3660, ge=35, le=36_500
    )
    content_days: int = setting(
        Change.SAFE, "Entries about prompts, documents and Guardrails' decisions", default=800, ge=35, le=36_500
    )
    usage_days: int = setting(Change.SAFE, "Entries about single requests to models", default=400, ge=35, le=36_500)


class Audit(Bundled):
    """Append-only log of all events."""

    retention: AuditRetention = setting(Change.SAFE, "Retention of the content of entries", default=AuditRetention())


def _variables(section: Audit, around: Surroundings) -> dict[str, str]:
    return {**kept(section.retention), "SERVICE_BACKUP_DAYS": str(around.data.backup_days)}


RECORD = ServiceRecord(
    "audit",
    title="Audit",
    about="Append-only log of all events",
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
    # These keys sign and encrypt the log. Without them, old checkpoints cannot be verified and old entries not read.
    own_secrets=("signing", "sealing"),
    # Made where there is a secret store; Audit signs and seals with `own_secrets` so far.
    store_keys={"signing": KeyUse.SIGN, "sealing": KeyUse.ENCRYPT},
    asks_for_keys=True,
    scopes=("audit",),
    variables=_variables,
)
