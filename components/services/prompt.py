"""Prompt: stores prompts with versions and labels."""

from __future__ import annotations

from components.config.base import Change, Section, setting
from components.services.quotas import OfTenant, quotas
from components.services.record import (
    DEAD_LETTER_HANDLED,
    QUOTA_REACHED,
    TENANT_DELETED,
    TENANT_ERASED,
    Body,
    Bundled,
    Prefix,
    ServiceRecord,
    Surroundings,
)


class PromptQuotas(Section):
    """Limits on what a tenant stores in Prompt."""

    prompts: int = setting(Change.SAFE, "Prompts", default=5000, ge=1, le=1_000_000)
    versions: int = setting(Change.SAFE, "Most versions of all prompts together", default=50_000, ge=1, le=100_000_000)
    labels: int = setting(Change.SAFE, "Most labels of all prompts together", default=20_000, ge=1, le=10_000_000)
    splits: int = setting(Change.SAFE, "Most traffic splits of all prompts together", default=5000, ge=1, le=1_000_000)


class PromptQuotasOf(OfTenant, PromptQuotas):
    """Limits for one tenant, in place of the general ones."""


class Prompt(Bundled):
    """Stores prompts with versions and labels."""

    quotas: PromptQuotas = setting(Change.SAFE, "Limits per tenant", default=PromptQuotas())
    quotas_of: tuple[PromptQuotasOf, ...] = setting(
        Change.SAFE, "Limits of single tenants, in place of quotas", default=(), max_length=1000, strict=False
    )


def _variables(section: Prompt, around: Surroundings) -> dict[str, str]:
    return quotas(section.quotas, section.quotas_of, _name)


def _name(field: str) -> str:
    """Name of a quota in the service's own settings."""
    return field if field == "prompts" else f"{field} of prompts"


RECORD = ServiceRecord(
    "prompt",
    title="Prompt",
    about="Stores prompts with versions and labels",
    position=2,
    section=Prompt,
    prefixes=(
        Prefix("/v1/prompts", Body.TEXT, encoded_names=True),
        Prefix("/v1/prompt/"),
        Prefix("/api/public/v2/prompts", Body.TEXT, encoded_names=True),
    ),
    database=True,
    consumes=(TENANT_DELETED,),
    outbox=("prompt.changed.v1", QUOTA_REACHED, TENANT_ERASED, DEAD_LETTER_HANDLED),
    keeps=("labels",),
    follows=("tenants",),
    cache=True,
    asks_for_keys=True,
    scopes=("prompts",),
    variables=_variables,
)
