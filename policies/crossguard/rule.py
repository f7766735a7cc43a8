"""What a rule is, and how values that are not known yet are handled."""

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
    """What a violation does."""

    MANDATORY = "mandatory"
    """The update is refused."""
    ADVISORY = "advisory"
    """It is reported."""
    DISABLED = "disabled"


class Area(StrEnum):
    """What a rule protects."""

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
    """A resource as a rule sees it."""

    type: str
    name: str
    urn: str
    properties: Properties
    protect: bool = False

    @property
    def environment(self) -> str:
        """The stage of its environment: local, dev, staging or prod."""
        return stage(self.urn.split(":")[2])


@dataclass(frozen=True)
class Rule:
    """One rule on single resources."""

    name: str
    area: Area
    description: str
    """What must hold."""
    fix: str
    """What to do where it does not."""
    types: tuple[str, ...]
    """Resource types that it looks at; a final * stands for any ending."""
    check: Callable[[Resource], Iterator[str]]
    """Yields what is wrong."""
    strict_from: str = "dev"
    """First environment in which it is mandatory; before, it is advisory."""

    def violations(self, resource: Resource) -> list[str]:
        """What is wrong with a resource. What is not known before the update is looked at during it."""
        if not any(matches(resource.type, wanted) for wanted in self.types):
            return []
        found: list[str] = []
        with contextlib.suppress(UnknownValueError):
            found.extend(self.check(resource))
        return found


@dataclass(frozen=True)
class StackRule:
    """One rule on a stack as a whole."""

    name: str
    area: Area
    description: str
    fix: str
    check: Callable[[Sequence[Resource]], Iterator[tuple[str, str]]]
    """Yields (URN, what is wrong)."""
    strict_from: str = "dev"

    def violations(self, resources: Sequence[Resource]) -> list[tuple[str, str]]:
        """What is wrong with a stack."""
        found: list[tuple[str, str]] = []
        with contextlib.suppress(UnknownValueError):
            found.extend(self.check(resources))
        return found


def level(rule: Rule | StackRule, environment: str) -> Level:
    """How strict a rule is in an environment."""
    strict = ENVIRONMENTS.index(environment) >= ENVIRONMENTS.index(rule.strict_from)
    return Level.MANDATORY if strict else Level.ADVISORY


def matches(resource_type: str, wanted: str) -> bool:
    """Whether a type is the wanted one."""
    return re.fullmatch(re.escape(wanted).replace(r"\*", ".*"), resource_type) is not None


def known(value: Any, name: str) -> Any:
    """A member that may be unknown before the update: none then."""
    try:
        return value.get(name)
    except UnknownValueError:
        return UNKNOWN


class Unknown:
    """A value that the update will tell."""

    def __bool__(self) -> bool:
        return True


UNKNOWN = Unknown()
