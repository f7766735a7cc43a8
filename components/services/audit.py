"""Audit: an append-only log of all events."""

from __future__ import annotations

from collections.abc import Iterator

from components.config.base import Change, Section, setting
from components.config.problems import Conflict
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
    secret: bool = setting(
        Change.DISRUPTIVE,
        "Whether a Secret holds Audit's keys. false needs security.secretStore, which then holds them: from the start, "
        "or once audit_keys_in_own_secret is 0 and no backup of the database is older than that",
        default=True,
    )


def _variables(section: Audit, around: Surroundings) -> dict[str, str]:
    return {**kept(section.retention), "SERVICE_BACKUP_DAYS": str(_backup_days(section, around))}


def _backup_days(section: Audit, around: Surroundings) -> int:
    """Days for which a destroyed key is in a backup. Only the secret store has all keys where there is no Secret."""
    store = around.security.secret_store
    if store is None or not around.data.backup_days:
        return around.data.backup_days
    snapshots = store.snapshots.keep_days if around.data.object_store else 0
    return max(around.data.backup_days, snapshots) if section.secret else snapshots


def _conflicts(section: Audit, around: Surroundings) -> Iterator[Conflict]:
    if not section.secret and around.security.secret_store is None:
        yield Conflict(
            ("services", "audit", "secret"),
            False,
            "without security.secretStore, a Secret holds Audit's keys",
            "set it to true, or add security.secretStore",
            ("security.secretStore",),
        )


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
        "policy.decided.v1",
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
    # These keys sign and encrypt the log. Without them, new checkpoints cannot be signed and old entries not read.
    own_secrets=("signing", "sealing"),
    holds_secrets=lambda section: section.secret,
    # A secret store takes over: it signs, and holds one key for each tenant, whose shredding destroys it.
    store_keys={"signing": KeyUse.SIGN},
    store_key_families=("sealing",),
    asks_for_keys=True,
    scopes=("audit",),
    variables=_variables,
    conflicts=_conflicts,
)
