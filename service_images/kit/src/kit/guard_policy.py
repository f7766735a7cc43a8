"""The model of a tenant's guard policy, shared by User, which stores policies, and Guardrails, which enforces them.

Both services refuse the same mistakes: unknown fields, packs, kinds, actions and directions are errors that name the
value and what is valid. This module loads nothing of the detectors; a test of Guardrails compares `KINDS` with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from kit import json_schema
from kit.rest import JsonObject, Model

MAX_POLICY_BYTES = 64 * 1024
"""Size of a policy, as compact JSON in UTF-8."""


class Category(StrEnum):
    """The category of a finding."""

    PII = "pii"
    SECRET = "secret"
    INJECTION = "prompt_injection"
    TOPIC = "topic"
    SCHEMA = "schema"


class Action(IntEnum):
    """What happens to a text with a finding, from the least to the most strict."""

    ALLOW = 1
    FLAG = 2
    REDACT = 3
    BLOCK = 4

    @property
    def word(self) -> str:
        """The action's name in a policy."""
        return self.name.lower()


class Direction(StrEnum):
    """Whether a text goes to a model or comes from one."""

    INPUT = "input"
    OUTPUT = "output"


class Pack(StrEnum):
    """A set of kinds with their actions, as a regulation requires."""

    GDPR = "gdpr"
    """Personal data is redacted in both directions. Source: Regulation (EU) 2016/679, article 4(1)."""
    HIPAA = "hipaa"
    """Identifiers of the safe harbour. Source: 45 CFR 164.514(b)(2)."""
    PCI_DSS = "pci-dss"
    """Card numbers are masked. Source: PCI DSS 4.0, requirement 3.4."""
    SECRETS = "secrets"
    """Credentials neither reach a model nor come from one."""


_PII = """
    au_abn au_acn au_medicare au_tfn ca_sin credit_card crypto date_of_birth de_driving_licence de_health_insurance
    de_social_security de_tax_id email es_nif es_passport fi_personal_identity_code iban in_aadhaar in_gstin in_pan
    in_passport in_voter ip_address it_driver_license it_fiscal_code it_vat_code kr_passport kr_rrn mac_address ng_nin
    ph_tin ph_umid phone pl_pesel se_personnummer sg_nric th_tnin tr_national_id uk_driving_licence uk_nhs uk_nino
    uk_passport us_bank_number us_dea_number us_driver_license us_health_insurance_id us_itin us_mbi us_npi us_passport
    us_routing_number us_ssn za_id_number
"""
_SECRET = """
    anthropic_key aws_access_key github_token gitlab_token google_api_key jwt npm_token openai_key password platform_key
    private_key pypi_token slack_token stripe_key url_password
"""
_INJECTION = "exfiltration jailbreak leak markup new_role override smuggling"
KINDS: Mapping[str, Category] = MappingProxyType(
    dict.fromkeys(_PII.split(), Category.PII)
    | dict.fromkeys(_SECRET.split(), Category.SECRET)
    | dict.fromkeys(_INJECTION.split(), Category.INJECTION)
)
"""Every kind that Guardrails detects, with its category."""
DETECTABLE = (*sorted(KINDS), Category.PII.value, Category.SECRET.value, Category.INJECTION.value)
"""What a rule may name: a kind, or a category for all of its kinds."""


def _one_of(what: str, valid: Iterable[str]) -> Callable[[Any], Any]:
    names = tuple(valid)

    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in names:
            shown = value if len(value) <= 60 else f"{value[:60]}..."
            raise ValueError(f'"{shown}" is not a known {what}; known are: {", ".join(names)}')
        return value

    return check


def _names(what: str, valid: Iterable[str]) -> Any:
    names = list(valid)
    return Annotated[
        str, BeforeValidator(_one_of(what, names)), WithJsonSchema({"type": "string", "enum": names}, mode="validation")
    ]


Word = Annotated[str, Field(min_length=2, max_length=100, pattern=r"^[^\x00\n]+$")]
Act = _names("action", (action.word for action in Action))
Detectable = _names("kind", DETECTABLE)
Way = Annotated[Direction, BeforeValidator(_one_of("direction", Direction))]
Regulation = Annotated[Pack, BeforeValidator(_one_of("pack", Pack))]


class Rule(Model):
    """The action for a kind, or for all kinds of a category."""

    detect: Detectable
    action: Act
    on: Annotated[tuple[Way, ...], Field(min_length=1, max_length=2)] = (Direction.INPUT, Direction.OUTPUT)


class Topic(Model):
    """A forbidden subject, recognised by its words."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    words: Annotated[tuple[Word, ...], Field(min_length=1, max_length=500)]
    action: Act = "block"


def _schema(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is not None:
        try:
            json_schema.read(schema)
        except json_schema.SchemaRefused as error:
            raise ValueError(str(error)[:1000]) from None
    return schema


class Policy(Model):
    """A tenant's guard policy."""

    packs: Annotated[tuple[Regulation, ...], Field(max_length=10)] = (Pack.SECRETS,)
    rules: Annotated[tuple[Rule, ...], Field(max_length=100)] = (Rule(detect="prompt_injection", action="block"),)
    """The last rule that names a kind decides about that kind, before the packs."""
    topics: Annotated[tuple[Topic, ...], Field(max_length=50)] = ()
    output_schema: Annotated[JsonObject | None, AfterValidator(_schema)] = None
    """JSON Schema that every answer of a model must satisfy; any other answer is blocked."""

    @model_validator(mode="before")
    @classmethod
    def _small(cls, value: Any) -> Any:
        if isinstance(value, dict):
            size = len(
                json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str).encode(errors="replace")
            )
            if size > MAX_POLICY_BYTES:
                raise ValueError(f"a policy has at most {MAX_POLICY_BYTES} bytes; this one has {size}: shorten it")
        return value
