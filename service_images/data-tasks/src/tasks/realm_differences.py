"""Differences between things of a realm and what is declared, and what settles them."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks.common import Problem
from tasks.keycloak import Json, Keycloak

OWNED = "cogniforge.owned"
"""Attribute of everything that the task has made."""
_HIDDEN = "(hidden)"


@dataclass(frozen=True)
class Difference:
    """One thing of the realm that is not as declared, and what brings it there."""

    what: str
    """Such as "role operator"."""
    verb: str
    """"add", "change" or "remove"."""
    fields: tuple[str, ...]
    """For a change: "field: present value -> declared value"."""
    mend: Callable[[], object] = field(compare=False)

    def __str__(self) -> str:
        return "; ".join((f"{self.verb} {self.what}", *self.fields))


def difference(
    keycloak: Keycloak, what: str, present: Json | None, body: Json, paths: tuple[str, str], mark: list[Any]
) -> Iterator[Difference]:
    """Difference of one thing that has a name. `paths`: where it is made, and where it is."""
    made_at, is_at = paths
    if present is None:
        yield Difference(what, "add", (), lambda: keycloak.send("POST", made_at, body))
        return
    if (present.get("attributes") or {}).get(mark[0]) != mark[1]:
        raise Problem(f"the {what} exists and was not made by this task: rename or remove it")
    # Claims have operations of their own.
    compared = {key: value for key, value in body.items() if key != "protocolMappers"}
    if fields := changed(present, compared):
        merged = {**present, **compared}
        merged["attributes"] = {**(present.get("attributes") or {}), **compared["attributes"]}
        yield Difference(what, "change", fields, lambda: keycloak.send("PUT", is_at, merged))


def removal(keycloak: Keycloak, what: str, path: str) -> Difference:
    """Difference of one thing that nobody declares any more."""
    return Difference(what, "remove", (), lambda: keycloak.send("DELETE", path))


def mappers(keycloak: Keycloak, path: str, owner: str, found: list[Json], wanted: list[Json]) -> Iterator[Difference]:
    """Claims of a client, or of a provider. All mappers of ours are declared: another one would add others' claims."""
    present = {one["name"]: one for one in found}
    for asked in wanted:
        there = present.get(asked["name"])
        what = f"claim {asked['name']} of {owner}"
        if there is None:
            yield Difference(what, "add", (), lambda asked=asked: keycloak.send("POST", path, asked))
        elif fields := changed(there, asked):
            body = {**asked, "id": there["id"]}
            place = f"{path}/{there['id']}"
            yield Difference(what, "change", fields, lambda place=place, body=body: keycloak.send("PUT", place, body))
    for name in sorted(present.keys() - {one["name"] for one in wanted}):
        yield removal(keycloak, f"claim {name} of {owner}", f"{path}/{present[name]['id']}")


def changed(present: Json, wanted: Json, prefix: str = "") -> tuple[str, ...]:
    """Declared fields with another value. Fields that are not declared may have any value."""
    found: list[str] = []
    for key, asked in wanted.items():
        there, name = present.get(key), f"{prefix}{key}"
        if isinstance(asked, dict):
            found += changed(there if isinstance(there, dict) else {}, asked, f"{name}.")
        elif _comparable(there) != _comparable(asked):
            shown = (_HIDDEN, _HIDDEN) if key == "secret" else (json.dumps(there), json.dumps(asked))
            found.append(f"{name}: {shown[0]} -> {shown[1]}")
    return tuple(found)


def _comparable(value: Any) -> Any:
    """Lists of Keycloak are sets."""
    return sorted(map(str, value)) if isinstance(value, list) else value


def quoted(text: str, safe: str = "") -> str:
    """A name as a part of a path."""
    return urllib.parse.quote(text, safe=safe)
