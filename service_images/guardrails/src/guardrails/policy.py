"""What a tenant wants done about what is found: packs by regulation, rules over them, topics, a shape of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Annotated, Any

import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from kit.rest import Model
from pydantic import AfterValidator, Field

from guardrails.detectors import KINDS, Category


class Action(IntEnum):
    """What is done; the strongest of all holds for a text."""

    ALLOW = 1
    FLAG = 2
    REDACT = 3
    BLOCK = 4

    @property
    def word(self) -> str:
        """As it is written."""
        return self.name.lower()


class Direction(StrEnum):
    """Who has written a text."""

    INPUT = "input"
    OUTPUT = "output"


class Pack(StrEnum):
    """What a regulation asks for."""

    GDPR = "gdpr"
    """Personal data goes neither way. Source: Regulation (EU) 2016/679, article 4(1)."""
    HIPAA = "hipaa"
    """Identifiers of the safe harbour. Source: 45 CFR 164.514(b)(2)."""
    PCI_DSS = "pci-dss"
    """Card numbers are masked. Source: PCI DSS 4.0, requirement 3.4."""
    SECRETS = "secrets"
    """Nobody's credentials go to a model, or come from one."""


_PII = sorted(kind for kind, category in KINDS.items() if category is Category.PII)
_SECRETS = sorted(kind for kind, category in KINDS.items() if category is Category.SECRET)
PACKS: dict[Pack, dict[str, Action]] = {
    Pack.GDPR: dict.fromkeys(_PII, Action.REDACT),
    Pack.HIPAA: dict.fromkeys(
        (
            *(
                "email",
                "phone",
                "us_ssn",
                "ip_address",
                "date_of_birth",
                "us_bank_number",
                "us_passport",
                "mac_address",
            ),
            *("us_mbi", "us_health_insurance_id", "us_driver_license", "us_dea_number", "us_npi", "us_routing_number"),
        ),
        Action.REDACT,
    ),
    Pack.PCI_DSS: {"credit_card": Action.REDACT},
    Pack.SECRETS: dict.fromkeys(_SECRETS, Action.REDACT),
}
Word = Annotated[str, Field(min_length=2, max_length=100, pattern=r"^[^\x00\n]+$")]
Act = Annotated[str, Field(pattern="^(allow|flag|redact|block)$")]


def _known(kind: str) -> str:
    if kind not in KINDS and kind not in set(Category):
        raise ValueError(f"not known; there are {', '.join(sorted({*KINDS, *Category}))}")
    return kind


class Rule(Model):
    """What is done about a kind, or a whole category."""

    detect: Annotated[str, AfterValidator(_known)]
    action: Act
    on: Annotated[tuple[Direction, ...], Field(min_length=1, max_length=2)] = (Direction.INPUT, Direction.OUTPUT)


class Topic(Model):
    """What is not talked about, by the words that tell of it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    words: Annotated[tuple[Word, ...], Field(min_length=1, max_length=500)]
    action: Act = "block"


def _shape(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(error.message[:300]) from None
    text = json.dumps(schema)
    if '"$ref"' in text or '"pattern' in text:
        raise ValueError("$ref, pattern and patternProperties are not possible")
    return schema


class Policy(Model):
    """A tenant's policy."""

    packs: Annotated[tuple[Pack, ...], Field(max_length=10)] = (Pack.SECRETS,)
    rules: Annotated[tuple[Rule, ...], Field(max_length=100)] = (Rule(detect="prompt_injection", action="block"),)
    """The last one that fits holds, before what packs say."""
    topics: Annotated[tuple[Topic, ...], Field(max_length=50)] = ()
    output_schema: Annotated[dict[str, Any] | None, AfterValidator(_shape)] = None
    """JSON Schema of every answer of a model; one that does not fit is blocked."""


class Compiled:
    """A policy, ready to be asked."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.actions = {direction: self._actions(direction) for direction in Direction}
        self.topics = [(topic, _any_of(topic.words), Action[topic.action.upper()]) for topic in policy.topics]
        self.shape = Draft202012Validator(policy.output_schema) if policy.output_schema is not None else None

    def _actions(self, direction: Direction) -> dict[str, Action]:
        found: dict[str, Action] = {}
        for pack in self.policy.packs:
            for kind, action in PACKS[pack].items():
                found[kind] = max(action, found.get(kind, Action.ALLOW))
        for rule in self.policy.rules:
            if direction in rule.on:
                kinds = [rule.detect] if rule.detect in KINDS else [k for k, c in KINDS.items() if c == rule.detect]
                found |= dict.fromkeys(kinds, Action[rule.action.upper()])
        return found


def _any_of(words: tuple[str, ...]) -> Callable[[str], Any]:
    options = re2.Options()
    options.case_sensitive = False
    return re2.compile(r"\b(?:" + "|".join(re2.escape(word) for word in words) + r")\b", options).finditer
