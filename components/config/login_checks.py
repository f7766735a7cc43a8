"""Rules of `security.keycloak`, between its lists and with other sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from components.config.applications import Protocol
from components.config.base import first_duplicate
from components.config.platform import PlatformConfig
from components.config.problems import Conflict, Location, did_you_mean
from components.config.security import CLIENTS, Keycloak

_OWN = {"admin", "manage", "impersonate"}
"""Scopes that give rights to others, or make keys. No program has them for a person."""
_HERE: Location = ("security", "keycloak")


def conflicts(config: PlatformConfig) -> Iterator[Conflict]:
    """Every mistake in `security.keycloak` that one field alone does not show."""
    section = config.security.keycloak
    if section is not None:
        yield from _providers(section)
        yield from _applications(section)
        yield from _delegates(section, {scope for one in config.around.records.values() for scope in one.scopes})


def _providers(section: Keycloak) -> Iterator[Conflict]:
    here: Location = (*_HERE, "providers")
    yield from _twice(here, "name", [one.name for one in section.providers])
    only = [number for number, one in enumerate(section.providers) if one.only]
    for number in only[1:]:
        text = "one provider at most is the only way in"
        yield Conflict((*here, number, "only"), True, text, "remove only from all but one")
    for number, one in enumerate(section.providers):
        if only and number not in only and one.shown:
            text = f'not shown beside "{section.providers[only[0]].name}", which is the only way in'
            yield Conflict((*here, number, "shown"), True, text, "set shown: false, or remove the other's only")
        for place, grant in enumerate(one.grants):
            if grant.tenant and grant.tenant not in section.tenants:
                path = (*here, number, "grants", place, "tenant")
                yield _unknown(path, grant.tenant, "security.keycloak.tenants", section.tenants)


def _applications(section: Keycloak) -> Iterator[Conflict]:
    here: Location = (*_HERE, "applications")
    yield from _twice(here, "name", [one.name for one in section.applications])
    yield from _twice(here, "entityId", [one.entity_id or f"oidc {one.name}" for one in section.applications])
    for number, one in enumerate(section.applications):
        taken = {*CLIENTS, *section.machines} & {one.name, one.client_id}
        if taken:
            text = f"not the name of another client: {', '.join([*CLIENTS, *section.machines])}"
            yield Conflict((*here, number, "name"), one.name, text, "choose another one")


def _delegates(section: Keycloak, scopes: set[str]) -> Iterator[Conflict]:
    here: Location = (*_HERE, "delegates")
    yield from _twice(here, "machine", [one.machine for one in section.delegates])
    usable = sorted(scopes - _OWN)
    possible = [one.name for one in section.applications if one.protocol is Protocol.OIDC]
    for number, one in enumerate(section.delegates):
        if one.machine not in section.machines:
            yield _unknown((*here, number, "machine"), one.machine, "security.keycloak.machines", section.machines)
        for place, scope in enumerate(one.scopes):
            if scope not in usable:
                text = f"a scope of the environment's services, without {', '.join(sorted(_OWN))}: {', '.join(usable)}"
                fix = did_you_mean(scope, usable, "choose one of them")
                yield Conflict((*here, number, "scopes", place), scope, text, fix, ("services",))
        for place, name in enumerate(one.applications):
            if name not in possible:
                path = (*here, number, "applications", place)
                yield _unknown(path, name, "security.keycloak.applications with protocol: oidc", possible)


def _twice(here: Location, field: str, names: list[str]) -> Iterator[Conflict]:
    if duplicate := first_duplicate(tuple(names)):
        number = len(names) - 1 - names[::-1].index(duplicate)
        yield Conflict((*here, number, field), duplicate, "unique in the list", "rename or remove one")


def _unknown(path: Location, name: str, where: str, names: Iterable[str]) -> Conflict:
    known = list(names)
    text = f"one of {where}: {', '.join(known) or 'there is none'}"
    return Conflict(
        path, name, text, did_you_mean(name, known, f"add it to {where.split(' ')[0]}, or choose another one")
    )
