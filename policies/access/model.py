"""What the layers have in common: an access, a layer, and a counterexample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from components.config.platform import PlatformConfig
from policies.access.objects import Rendered


class Access(NamedTuple):
    """Somebody does something to something. The texts are those of the counterexamples and of the matrix."""

    who: str
    action: str
    target: str


Granted = Mapping[Access, str]
"""The object that allows each access, such as "NetworkPolicy cogniforge/nats, ingress rule 2"."""
Intended = Mapping[Access, str]
"""The reason for each access, such as "record of router: follows tenants"."""


@dataclass(frozen=True)
class Layer:
    """One way in which an environment limits access."""

    name: str
    title: str
    about: str
    """What is compared, and over which sets, in one or two sentences for the matrix."""
    granted: Callable[[Rendered], Granted]
    """All accesses that the rendered objects allow, over the layer's finite sets."""
    intended: Callable[[PlatformConfig, Rendered], Intended]
    """All accesses that the records and the configuration ask for. The rendered objects only say which parts exist."""
    holder: Callable[[Access, Rendered], str]
    """The object that would have to allow an access."""


class Kind(StrEnum):
    """Kind of a counterexample."""

    EXCESS = "excess"
    """A layer allows an access that nobody intends."""
    MISSING = "missing"
    """A layer denies an access that a record asks for."""


@dataclass(frozen=True, order=True)
class Counterexample:
    """An access for which a layer and the records disagree."""

    layer: str
    kind: Kind
    access: Access
    because: str
    """The object that allows the access, or the record that asks for it."""
    object: str
    """The object to change."""

    def __str__(self) -> str:
        who, action, target = self.access
        if self.kind is Kind.EXCESS:
            return f"{self.layer}: {who} can {action} {target}: {self.because} allows it, and no record asks for it"
        asked = f"{self.because} asks for it; {self.object} lacks the right"
        return f"{self.layer}: {who} cannot {action} {target}: {asked}"


def compare(layer: Layer, config: PlatformConfig, rendered: Rendered) -> tuple[Granted, list[Counterexample]]:
    """The accesses that a layer allows, and all counterexamples, in a stable order."""
    granted, intended = layer.granted(rendered), layer.intended(config, rendered)
    found = [
        Counterexample(layer.name, Kind.EXCESS, access, by, by)
        for access, by in granted.items()
        if access not in intended
    ]
    found += [
        Counterexample(layer.name, Kind.MISSING, access, reason, layer.holder(access, rendered))
        for access, reason in intended.items()
        if access not in granted
    ]
    return granted, sorted(found)
