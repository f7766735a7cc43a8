"""A tenant's policy, compiled for the checks: the actions by kind, topics, the schema of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import re2
from kit import json_schema
from kit.guard_policy import KINDS, Action, Category, Direction, Pack, Policy

from guardrails.folding import forms

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


class Compiled:
    """A policy, prepared for checks."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.actions = {direction: self._actions(direction) for direction in Direction}
        self.topics = [(topic, _any_of(topic.words), Action[topic.action.upper()]) for topic in policy.topics]
        self.shape = json_schema.read(policy.output_schema) if policy.output_schema is not None else None

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
    """Function that finds any of the words in a folded text. Letters of scripts without spaces count as words."""
    options = re2.Options()
    options.case_sensitive = False
    expressions = dict.fromkeys(_expression(word) for word in words)
    return re2.compile("|".join(one for one in expressions if one), options).finditer


def _expression(word: str) -> str:
    """Case-insensitive expression for a word in folded texts."""
    letters = [{re2.escape(form): form for form in found} for char in word if (found := forms(char))]
    for end, bound in ((0, r"\b{}"), (-1, r"{}\b")) if letters else ():
        letters[end] = {
            bound.format(form) if plain.isascii() and (plain[end].isalnum() or plain[end] == "_") else form: plain
            for form, plain in letters[end].items()
        }
    return "".join(next(iter(one)) if len(one) == 1 else f"(?:{'|'.join(one)})" for one in letters)
