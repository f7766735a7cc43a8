"""Definition of rules, and handling of values that are unknown in a preview."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pulumi_policy.proxy import UnknownValueError

from policies.crossguard.stage import ENVIRONMENTS, stage

Properties = Mapping[str, Any]


class Level(StrEnum):
    """Effect of a violation."""

    MANDATORY = "mandatory"
    """The violation refuses the update."""
    ADVISORY = "advisory"
    """The violation is reported only."""
    DISABLED = "disabled"


class Area(StrEnum):
    """Subject of a rule."""

    ENCRYPTION = "encryption"
    EXPOSURE = "exposure"
    IAM = "iam"
    OPERATIONS = "operations"
    SUPPLY_CHAIN = "supply-chain"
    WORKLOAD = "workload"
    DATA = "data"
    GPU = "gpu"
    COST = "cost"


@dataclass(frozen=True)
class Resource:
    """A resource for the check of rules."""

    type: str
    name: str
    urn: str
    properties: Properties
    protect: bool = False

    @property
    def environment(self) -> str:
        """Stage of its environment: local, dev, staging or prod."""
        return stage(self.urn.split(":")[2])


@dataclass(frozen=True)
class Rule:
    """A rule for single resources."""

    name: str
    area: Area
    description: str
    """The requirement, as a sentence."""
    fix: str
    """What to do after a violation."""
    types: tuple[str, ...]
    """Resource types that it checks. A final * matches any ending."""
    check: Callable[[Resource], Iterator[str]]
    """Function that yields violations."""
    strict_from: str = "dev"
    """First stage in which it is mandatory. In earlier stages, it is advisory."""

    def violations(self, resource: Resource) -> list[str]:
        """Violations of a resource. Values that are unknown in a preview are checked during the update."""
        if not any(matches(resource.type, wanted) for wanted in self.types):
            return []
        found: list[str] = []
        with contextlib.suppress(UnknownValueError):
            found.extend(self.check(resource))
        return found


@dataclass(frozen=True)
class StackRule:
    """A rule for a whole stack."""

    name: str
    area: Area
    description: str
    fix: str
    check: Callable[[Sequence[Resource]], Iterator[tuple[str, str]]]
    """Function that yields (URN, violation)."""
    strict_from: str = "dev"

    def violations(self, resources: Sequence[Resource]) -> list[tuple[str, str]]:
        """Violations of a stack, as (URN, violation)."""
        found: list[tuple[str, str]] = []
        with contextlib.suppress(UnknownValueError):
            found.extend(self.check(resources))
        return found


def level(rule: Rule | StackRule, environment: str) -> Level:
    """Level of a rule in an environment."""
    strict = ENVIRONMENTS.index(environment) >= ENVIRONMENTS.index(rule.strict_from)
    return Level.MANDATORY if strict else Level.ADVISORY


def matches(resource_type: str, wanted: str) -> bool:
    """Whether a resource type matches the type of a rule."""
    return re.fullmatch(re.escape(wanted).replace(r"\*", ".*"), resource_type) is not None


def known(value: Any, name: str) -> Any:
    """A member of a value; None if it is unknown before the update."""
    try:
        return value.get(name)
    except UnknownValueError:
        return UNKNOWN


class Unknown:
    """A value that is unknown before the update."""

    def __bool__(self) -> bool:
        return True


UNKNOWN = Unknown()
