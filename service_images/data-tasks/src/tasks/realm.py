"""Task for a realm of Keycloak: shows how it differs from what is declared, and brings it there.

The task marks what it makes. It changes and removes nothing else: roles, groups, clients and users that people have
made stay. `ACTION` says what to do: "apply" (default), or "show", which changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping

from tasks import realm_flows, realm_providers
from tasks.common import Problem, documents, endpoint, patiently
from tasks.keycloak import Away, Json, Keycloak, passwords
from tasks.realm_differences import OWNED, Difference, changed, difference, mappers, quoted, removal

_PASSES = 3


def main() -> str:
    """Run the task. Returns what it has done."""
    action = os.environ.get("ACTION", "apply")
    if action not in ("apply", "show"):
        raise Problem(f'ACTION is "{action}"; it must be apply or show')
    (wanted,) = documents("realm")
    keycloak = Keycloak(endpoint(), os.environ["AUTHORITY"])
    patiently("Keycloak does not answer", keycloak.log_in, Away)
    found = list(differences(keycloak, wanted, passwords))
    if action == "show":
        return json.dumps([str(one) for one in found])
    settle(keycloak, wanted, passwords)
    return f"{len(found)} differences are settled" if found else "the realm is as declared"


def settle(keycloak: Keycloak, wanted: Json, secrets: Callable[[str], str]) -> list[Difference]:
    """Show the differences, settle them, and check that none is left. Returns them."""
    done: list[Difference] = []
    # A new realm is made first, then what belongs into it, then what belongs to that, such as claims of a provider.
    for _ in range(_PASSES):
        found = list(differences(keycloak, wanted, secrets))
        if not found:
            return done
        for one in found:
            print(one, flush=True)
        for one in found:
            one.mend()
        done += found
    if left := list(differences(keycloak, wanted, secrets)):
        raise Problem(f"the realm still differs from the declaration: {left[0]}")
    return done


def differences(keycloak: Keycloak, wanted: Json, secrets: Callable[[str], str]) -> Iterator[Difference]:
    """How the realm differs from the declaration, in the order in which the differences can be settled."""
    realm = wanted["realm"]
    present = keycloak.get(f"/admin/realms/{realm}")
    asked = {"realm": realm, **wanted["settings"]}
    if present is None:
        marked = {**asked, "attributes": {**asked.get("attributes", {}), OWNED: "true"}}
        yield Difference(f"realm {realm}", "add", (), lambda: keycloak.send("POST", "/admin/realms", marked))
        return
    if (present.get("attributes") or {}).get(OWNED) != "true":
        raise Problem(f'the realm "{realm}" exists and was not made by this task: rename or remove it')
    base = f"/admin/realms/{realm}"
    if fields := changed(present, asked):
        attributes = {**(present.get("attributes") or {}), **asked.get("attributes", {})}
        body = {**asked, "attributes": attributes}
        yield Difference(f"realm {realm}", "change", fields, lambda: keycloak.send("PUT", base, body))
    yield from _actions(keycloak, base, wanted["actions"])
    yield from _roles(keycloak, base, wanted["roles"])
    yield from _groups(keycloak, base, wanted["groups"])
    yield from _clients(keycloak, base, wanted["clients"], secrets)
    yield from realm_flows.needed(keycloak, base, wanted["flows"])
    yield from realm_providers.wanted(keycloak, base, wanted["providers"])
    if present["browserFlow"] != wanted["browserFlow"]:
        body = {"realm": realm, "browserFlow": wanted["browserFlow"]}
        fields = (f"browserFlow: {present['browserFlow']} -> {wanted['browserFlow']}",)
        yield Difference(f"realm {realm}", "change", fields, lambda: keycloak.send("PUT", base, body))
    yield from realm_providers.unwanted(keycloak, base, wanted["providers"])
    yield from realm_flows.unwanted(keycloak, base, wanted["flows"])


def _actions(keycloak: Keycloak, base: str, wanted: Mapping[str, Json]) -> Iterator[Difference]:
    """What users must do at their next login. Keycloak has a fixed set, so nothing is added or removed."""
    for alias, asked in wanted.items():
        path = f"{base}/authentication/required-actions/{alias}"
        present = keycloak.get(path)
        if present is None:
            raise Problem(f'Keycloak has no required action "{alias}"')
        if fields := changed(present, asked):
            body = {**present, **asked}
            yield Difference(
                f"required action {alias}",
                "change",
                fields,
                lambda path=path, body=body: keycloak.send("PUT", path, body),
            )


def _roles(keycloak: Keycloak, base: str, wanted: Mapping[str, Json]) -> Iterator[Difference]:
    listed = keycloak.all(f"{base}/roles?briefRepresentation=false")
    present = {one["name"]: one for one in listed}
    for name, asked in wanted.items():
        body, path = {"name": name, **asked, "attributes": {OWNED: ["true"]}}, f"{base}/roles/{quoted(name)}"
        yield from difference(
            keycloak, f"role {name}", present.get(name), body, (f"{base}/roles", path), [OWNED, ["true"]]
        )
    for name in sorted(present.keys() - wanted.keys()):
        if (present[name].get("attributes") or {}).get(OWNED) == ["true"]:
            path = f"{base}/roles/{quoted(name)}"
            yield removal(keycloak, f"role {name}", path)


def _groups(keycloak: Keycloak, base: str, wanted: list[str]) -> Iterator[Difference]:
    """Groups by path. A parent is made when its first child is, and before it."""
    present = dict(_tree(keycloak, base))
    for path in sorted({parent for one in wanted for parent in _parents(one)}):
        if path not in present:
            yield Difference(f"group {path}", "add", (), lambda path=path: _make_group(keycloak, base, path))
        elif present[path].get("attributes", {}).get(OWNED) != ["true"]:
            raise Problem(f'the group "{path}" exists and was not made by this task: rename or remove it')
    kept = {parent for one in wanted for parent in _parents(one)}
    for path, group in sorted(present.items(), reverse=True):
        own = (group.get("attributes") or {}).get(OWNED) == ["true"]
        below = [other for other in present if other.startswith(f"{path}/")]
        others = [other for other in below if (present[other].get("attributes") or {}).get(OWNED) != ["true"]]
        if own and path not in kept and not others:
            yield removal(keycloak, f"group {path}", f"{base}/groups/{group['id']}")


def _parents(path: str) -> Iterator[str]:
    """The path of a group, and of all groups above it."""
    parts = path.strip("/").split("/")
    for length in range(1, len(parts) + 1):
        yield "/" + "/".join(parts[:length])


def _tree(keycloak: Keycloak, base: str) -> Iterator[tuple[str, Json]]:
    """All groups by path."""
    waiting = keycloak.all(f"{base}/groups?briefRepresentation=false")
    while waiting:
        group = waiting.pop()
        yield group["path"], group
        if group.get("subGroupCount", 1):
            waiting += keycloak.all(f"{base}/groups/{group['id']}/children?briefRepresentation=false")


def _make_group(keycloak: Keycloak, base: str, path: str) -> None:
    parent, _, name = path.rpartition("/")
    place = f"{base}/groups"
    if parent:
        found = keycloak.get(f"{base}/group-by-path/{quoted(parent.strip('/'), '/')}")
        if found is None:
            raise Problem(f"the group {parent} has disappeared")
        place = f"{base}/groups/{found['id']}/children"
    keycloak.send("POST", place, {"name": name, "attributes": {OWNED: ["true"]}})


def _clients(
    keycloak: Keycloak, base: str, wanted: Mapping[str, Json], secrets: Callable[[str], str]
) -> Iterator[Difference]:
    present = {one["clientId"]: one for one in keycloak.all(f"{base}/clients")}
    for name, asked in wanted.items():
        body = {"clientId": name, **{key: value for key, value in asked.items() if key != "secretOf"}}
        body["attributes"] = {**body.get("attributes", {}), OWNED: "true"}
        if login := asked.get("secretOf"):
            body["secret"] = secrets(login)
        found = present.get(name)
        path = f"{base}/clients/{found['id']}" if found else ""
        yield from difference(keycloak, f"client {name}", found, body, (f"{base}/clients", path), [OWNED, "true"])
        if found and "protocolMappers" in body:
            there = list(found.get("protocolMappers") or ())
            place, owner = f"{path}/protocol-mappers/models", f"client {name}"
            yield from mappers(keycloak, place, owner, there, body["protocolMappers"])
    for name in sorted(present.keys() - wanted.keys()):
        if (present[name].get("attributes") or {}).get(OWNED) == "true":
            yield removal(keycloak, f"client {name}", f"{base}/clients/{present[name]['id']}")
