"""What every section of the configuration is made of: field types with limits, upgrade marks, strictness.

Every field says what happens when it changes: `immutable` (the environment must be made anew),
`disruptive` (requests may fail while it is applied) or `safe`.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from components.config.problems import violation


class Change(StrEnum):
    """What changing a field does to a running environment."""

    SAFE = "safe"
    DISRUPTIVE = "disruptive"
    IMMUTABLE = "immutable"


_DECIMAL_UNITS = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS = {**_DECIMAL_UNITS, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)$")


def quantity(text: str) -> Decimal:
    """The number that a Kubernetes quantity such as "250m" or "1Gi" stands for. Raises ValueError."""
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(text)
    return Decimal(match[1]) * _UNITS[match[2]]


def gibibytes(text: str) -> int:
    """The same in GiB, rounded up, as AWS counts volumes."""
    return math.ceil(quantity(text) / 2**30)


def quantity_between(low: str, high: str, example: str) -> AfterValidator:
    """A Kubernetes quantity within limits, both included."""

    def check(text: str) -> str:
        try:
            number = quantity(text)
        except ValueError:
            raise violation("a Kubernetes quantity", f'write it like "{example}"') from None
        if not quantity(low) <= number <= quantity(high):
            raise violation(f"between {low} and {high}", f'choose a value in that range, such as "{example}"')
        return text

    return AfterValidator(check)


def matching(pattern: str, limit: str, fix: str) -> AfterValidator:
    """A string that matches a pattern as a whole, with words for the one that does not."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise violation(limit, fix)
        return text

    return AfterValidator(check)


Cpu = Annotated[str, quantity_between("10m", "64", "250m")]
"""CPU as a Kubernetes quantity, "10m" to "64"."""
Memory = Annotated[str, quantity_between("16Mi", "1Ti", "256Mi")]
"""Memory as a Kubernetes quantity, "16Mi" to "1Ti"."""
BodySize = Annotated[str, quantity_between("1Ki", "1Gi", "16Mi")]
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DnsLabel = Annotated[
    str,
    Field(max_length=40),
    matching(_LABEL, "lower-case letters, digits and hyphens (RFC 1123)", 'write it like "my-name"'),
]
Hostname = Annotated[
    str,
    Field(max_length=253),
    matching(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", "a DNS host name", 'write it like "api.example.com"'),
]
ModelName = Annotated[
    str,
    Field(max_length=200),
    matching(r"[A-Za-z0-9][A-Za-z0-9._:/-]*", "letters, digits and . _ : / -", 'write it like "org/model-7b"'),
]


def setting(change: Change, description: str, **options: Any) -> Any:
    """A field with its upgrade mark. `description` is shown by editors through the JSON Schema."""
    return Field(description=description, json_schema_extra={"x-change": change.value}, **options)


class Section(BaseModel):
    """Base of all sections: unknown fields are mistakes; names are camelCase in YAML."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Resources(Section):
    """What a container may use. Memory is both request and limit; CPU is a request, never a limit."""

    cpu: Cpu = setting(Change.SAFE, "CPU request, such as 250m", default="50m")
    memory: Memory = setting(Change.SAFE, "Memory request and limit, such as 256Mi", default="256Mi")


def first_duplicate(values: tuple[str, ...]) -> str | None:
    """The first value that is there twice."""
    return next((v for i, v in enumerate(values) if v in values[:i]), None)
