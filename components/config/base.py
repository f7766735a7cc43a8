"""Building blocks of all configuration sections: field types with limits, upgrade marks, strictness.

Every field has an upgrade mark: `immutable` (a change needs a new environment), `disruptive` (requests may fail
while a change is applied) or `safe`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from components.config.problems import violation


class Change(StrEnum):
    """Effect of a changed field on a running environment."""

    SAFE = "safe"
    DISRUPTIVE = "disruptive"
    IMMUTABLE = "immutable"


_DECIMAL_UNITS = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS = {**_DECIMAL_UNITS, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti|)$")


def quantity(text: str) -> Decimal:
    """Value of a Kubernetes quantity: 0.25 for "250m", 2^30 for "1Gi". Raises ValueError for any other text."""
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(text)
    return Decimal(match[1]) * _UNITS[match[2]]


def gibibytes(text: str) -> int:
    """Value of a Kubernetes quantity of bytes in GiB, rounded up. AWS sizes volumes in whole GiB."""
    return math.ceil(quantity(text) / 2**30)


def _limited(check: Callable[[str], str], limit: str) -> AfterValidator:
    check.__doc__ = limit  # the reference pages show it
    return AfterValidator(check)


def limits(metadata: Iterable[Any], unit: str) -> list[str]:
    """Limits of a field or of a type, in words. `unit` is what a length counts, such as "characters"."""
    found: list[str] = []
    for one in metadata:
        if isinstance(one, FieldInfo):
            found += limits(one.metadata, unit)
        elif isinstance(one, AfterValidator) and one.func.__doc__:
            found.append(one.func.__doc__)
        for name, words in _WORDS.items():
            if (value := getattr(one, name, None)) is not None:
                found.append(words.format(value, unit))
    return found


_WORDS = {
    "ge": "at least {:,}",
    "gt": "more than {:,}",
    "le": "at most {:,}",
    "lt": "less than {:,}",
    "min_length": "at least {:,} {}",
    "max_length": "at most {:,} {}",
    "pattern": "matches `{}`",
}


def quantity_between(low: str, high: str, example: str) -> AfterValidator:
    """Validator: a Kubernetes quantity from `low` to `high`, inclusive. Errors show `example`."""

    def check(text: str) -> str:
        try:
            number = quantity(text)
        except ValueError:
            raise violation("a Kubernetes quantity", f'write it like "{example}"') from None
        if not quantity(low) <= number <= quantity(high):
            raise violation(f"between {low} and {high}", f'choose a value in that range, such as "{example}"')
        return text

    return _limited(check, f"{low} to {high}")


def matching(pattern: str, limit: str, fix: str) -> AfterValidator:
    """Validator: the whole string matches `pattern`. Otherwise the error shows `limit` and `fix`."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise violation(limit, fix)
        return text

    return _limited(check, limit)


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
NamespaceName = Annotated[
    str,
    Field(max_length=63),
    matching(_LABEL, "the name of a namespace (RFC 1123)", 'write it like "my-namespace"'),
]
Hostname = Annotated[
    str,
    Field(max_length=253),
    matching(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", "a DNS host name", 'write it like "api.example.com"'),
]
ObjectName = Annotated[
    str,
    Field(max_length=253),
    matching(
        rf"{_LABEL}(\.{_LABEL})*",
        "the name of an object in Kubernetes: lower-case letters, digits, hyphens and dots (RFC 1123)",
        'write it like "my-name"',
    ),
]
ModelName = Annotated[
    str,
    Field(max_length=200),
    matching(r"[A-Za-z0-9][A-Za-z0-9._:/-]*", "letters, digits and . _ : / -", 'write it like "org/model-7b"'),
]


_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = re.compile(rf"((?P<prefix>{_SUBDOMAIN})/)?(?P<name>[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)")


def _label_key(text: str) -> str:
    """A key as Kubernetes' `IsQualifiedName` takes it."""
    match = _QUALIFIED.fullmatch(text)
    if match is None or len(match["prefix"] or "") > 253 or len(match["name"]) > 63:
        raise violation(
            "a name of at most 63 letters, digits and - _ . that begins and ends with a letter or a digit;"
            " before it may stand a DNS name of at most 253 characters and a slash",
            'write it like "team" or "example.com/team"',
        )
    return text


LabelKey = Annotated[str, Field(max_length=253 + 1 + 63), AfterValidator(_label_key)]
"""Key of a label, an annotation or a taint."""
LabelValue = Annotated[
    str,
    Field(max_length=63),
    matching(
        r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?",
        "letters, digits and - _ . that begins and ends with a letter or a digit, or nothing",
        'write it like "search-team"',
    ),
]
"""Value of a label or a taint."""
VariableName = Annotated[
    str,
    Field(max_length=200),
    matching(
        r"[A-Za-z_.-][A-Za-z0-9_.-]*",
        "letters, digits and _ . - that do not begin with a digit",
        'write it like "HTTPS_PROXY"',
    ),
]
"""Name of an environment variable."""


def setting(change: Change, description: str, **options: Any) -> Any:
    """A field with its upgrade mark. Editors and the reference page show `description`, from the JSON Schema."""
    return Field(description=description, json_schema_extra={"x-change": change.value}, **options)


def several(change: Change, description: str, most: int) -> Any:
    """A field that is a list of at most so many entries, empty by default."""
    return setting(change, description, default=(), max_length=most, strict=False)


def optional_section(change: Change, description: str, section: type[Section], **options: Any) -> Any:
    """A field with a section that is empty by default; the JSON Schema shows that, not all defaults in the section."""
    extra: dict[str, Any] = {"x-change": change.value, "default": {}}
    return Field(description=description, json_schema_extra=extra, default_factory=section, **options)


class Section(BaseModel):
    """Base class of all sections. Unknown fields are errors. Field names are camelCase in YAML."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Resources(Section):
    """Resources of a container. `memory` is request and limit; `cpu` is a request only."""

    cpu: Cpu = setting(Change.SAFE, "CPU request per container, such as 250m", default="50m")
    memory: Memory = setting(Change.SAFE, "Memory request and limit, such as 256Mi", default="256Mi")


def first_duplicate(values: tuple[str, ...]) -> str | None:
    """The first value that occurs a second time; None if all values are unique."""
    return next((v for i, v in enumerate(values) if v in values[:i]), None)
