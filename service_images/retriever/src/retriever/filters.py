"""Attribute filters in OpenAI's format. Each engine translates them into its own query language."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from kit.rest import Model
from pydantic import Field, FiniteFloat

Value = Annotated[str, Field(max_length=512, pattern=r"^[^\x00]*$")] | FiniteFloat | bool
Key = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]


class Comparison(Model):
    """Comparison of one attribute."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: Key
    value: Value | Annotated[tuple[Value, ...], Field(min_length=1, max_length=100)]

    @property
    def values(self) -> tuple[Value, ...]:
        """One or more values."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


class Compound(Model):
    """Combination of several filters."""

    type: Literal["and", "or"]
    filters: Annotated[tuple[Filter, ...], Field(min_length=1, max_length=20)]


Filter = Annotated[Comparison | Compound, Field(discriminator="type")]
Compound.model_rebuild()


def matches(wanted: Comparison | Compound | None, attributes: dict[str, Value]) -> bool:
    """Whether attributes match; the reference for all engines. A missing attribute is not equal to any value."""
    if wanted is None:
        return True
    if isinstance(wanted, Compound):
        results = (matches(one, attributes) for one in wanted.filters)
        return all(results) if wanted.type == "and" else any(results)
    there = attributes.get(wanted.key)
    same = there is not None and any(_same(there, value) for value in wanted.values)
    if wanted.type in ("eq", "in"):
        return same
    if wanted.type in ("ne", "nin"):
        return not same
    value = wanted.values[0]
    if (
        isinstance(there, bool)
        or isinstance(value, bool)
        or isinstance(there, str)
        or isinstance(value, str)
        or there is None
    ):
        return False
    return {"gt": there > value, "gte": there >= value, "lt": there < value, "lte": there <= value}[wanted.type]


def exactly(key: str, value: Value) -> str:
    """Text for an attribute's key and value, for engines that compare values of different types in their own way."""
    plain = value if isinstance(value, str | bool) else float(value)
    return hashlib.sha256(json.dumps([key, plain]).encode()).hexdigest()[:32]


def numbers(attributes: dict[str, Value]) -> dict[str, float]:
    """Numeric attributes, which have an order."""
    return {
        key: float(value)
        for key, value in attributes.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _same(there: Value, value: Value) -> bool:
    return isinstance(there, bool) == isinstance(value, bool) and there == value
