"""Prompt: prompts with versions and labels."""

from __future__ import annotations

from components.config.base import Change, DnsLabel, Section, setting
from components.services.quotas import quotas
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
    """What a tenant may keep in Prompt."""

    prompts: int = setting(Change.SAFE, "Prompts", default=5000, ge=1, le=1_000_000)
    versions: int = setting(Change.SAFE, "Versions of all prompts", default=50_000, ge=1, le=100_000_000)
    labels: int = setting(Change.SAFE, "Labels of all prompts", default=20_000, ge=1, le=10_000_000)
    splits: int = setting(Change.SAFE, "Splits of all prompts", default=5000, ge=1, le=1_000_000)


class PromptQuotasOf(PromptQuotas):
    """What one tenant may keep in Prompt, instead of what the others may."""

    tenant: DnsLabel = setting(Change.SAFE, "The tenant's id")


class Prompt(Bundled):
    """Prompts with versions and labels."""

    quotas: PromptQuotas = setting(Change.SAFE, "Of each tenant", default=PromptQuotas())
    quotas_of: tuple[PromptQuotasOf, ...] = setting(
        Change.SAFE, "Of tenants that may keep more, or less", default=(), max_length=1000, strict=False
    )


def _variables(section: Prompt, around: Surroundings) -> dict[str, str]:
    return quotas(section.quotas, section.quotas_of, _name)


def _name(field: str) -> str:
    """The service's own name for what a quota counts."""
    return field if field == "prompts" else f"{field} of prompts"


RECORD = ServiceRecord(
    "prompt",
    title="Prompt",
    about="Prompts with versions and labels",
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
