"""Task for a realm of Keycloak: shows how it differs from what is declared, and brings it there.

The task marks what it makes. It changes and removes nothing else: roles, groups, clients and users that people have
made stay. `ACTION` says what to do: "apply" (default), or "show", which changes nothing.
"""

from __future__ import annotations

import json
import os
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3

from tasks.common import CREDENTIALS, Problem, documents, endpoint, patiently

ADMIN, SECRET = "keycloak-admin", "secret"
OWNED = "cogniforge.owned"
"""Attribute of everything that the task has made."""
_HIDDEN = "(hidden)"
_AWAY = (urllib3.exceptions.HTTPError, OSError)
Json = dict[str, Any]


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


def main() -> str:
    """Run the task. Returns what it has done."""
    action = os.environ.get("ACTION", "apply")
    if action not in ("apply", "show"):
        raise Problem(f'ACTION is "{action}"; it must be apply or show')
    (wanted,) = documents("realm")
    keycloak = Keycloak(endpoint(), os.environ["AUTHORITY"])
    patiently("Keycloak does not answer", keycloak.log_in, _Away)
    found = list(differences(keycloak, wanted, passwords))
    if action == "show":
        return json.dumps([str(one) for one in found])
    settle(keycloak, wanted, passwords)
    return f"{len(found)} differences are settled" if found else "the realm is as declared"


def passwords(login: str) -> str:
    """Secret of a client."""
    return (CREDENTIALS / login / SECRET).read_text().strip()


def settle(keycloak: Keycloak, wanted: Json, secrets: Callable[[str], str]) -> list[Difference]:
    """Show the differences, settle them, and check that none is left. Returns them."""
    done: list[Difference] = []
    # A new realm is made first; what belongs into it is found afterwards.
    for _ in range(2):
        found = list(differences(keycloak, wanted, secrets))
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
        body, path = {"name": name, **asked, "attributes": {OWNED: ["true"]}}, f"{base}/roles/{_quoted(name)}"
        yield from _one(keycloak, f"role {name}", present.get(name), body, (f"{base}/roles", path), [OWNED, ["true"]])
    for name in sorted(present.keys() - wanted.keys()):
        if (present[name].get("attributes") or {}).get(OWNED) == ["true"]:
            path = f"{base}/roles/{_quoted(name)}"
            yield _removal(keycloak, f"role {name}", path)


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
            yield _removal(keycloak, f"group {path}", f"{base}/groups/{group['id']}")


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
        found = keycloak.get(f"{base}/group-by-path/{_quoted(parent.strip('/'), '/')}")
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
        yield from _one(keycloak, f"client {name}", found, body, (f"{base}/clients", path), [OWNED, "true"])
        if found and "protocolMappers" in body:
            yield from _mappers(keycloak, f"{path}/protocol-mappers/models", name, found, body["protocolMappers"])
    for name in sorted(present.keys() - wanted.keys()):
        if (present[name].get("attributes") or {}).get(OWNED) == "true":
            yield _removal(keycloak, f"client {name}", f"{base}/clients/{present[name]['id']}")


def _mappers(keycloak: Keycloak, path: str, client: str, found: Json, wanted: list[Json]) -> Iterator[Difference]:
    """Claims of a client's tokens. All mappers of our clients are ours: another one would put others' claims there."""
    present = {one["name"]: one for one in found.get("protocolMappers") or ()}
    for asked in wanted:
        there = present.get(asked["name"])
        what = f"claim {asked['name']} of client {client}"
        if there is None:
            yield Difference(what, "add", (), lambda asked=asked: keycloak.send("POST", path, asked))
        elif fields := changed(there, asked):
            body = {**asked, "id": there["id"]}
            place = f"{path}/{there['id']}"
            yield Difference(what, "change", fields, lambda place=place, body=body: keycloak.send("PUT", place, body))
    for name in sorted(present.keys() - {one["name"] for one in wanted}):
        yield _removal(keycloak, f"claim {name} of client {client}", f"{path}/{present[name]['id']}")


def _one(
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


def _removal(keycloak: Keycloak, what: str, path: str) -> Difference:
    return Difference(what, "remove", (), lambda: keycloak.send("DELETE", path))


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


def _quoted(text: str, safe: str = "") -> str:
    return urllib.parse.quote(text, safe=safe)


class _Away(Exception):
    """Keycloak does not answer yet."""


class Keycloak:
    """A client of Keycloak's administration API."""

    PAGE = 200

    def __init__(self, address: str, authority: str, admin: Callable[[], str] = lambda: passwords(ADMIN)) -> None:
        """`authority`: CA certificate (PEM); `admin` returns the secret of the client that administers Keycloak."""
        context = ssl.create_default_context(cadata=authority) if authority else None
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10, read=180), retries=False, ssl_context=context
        )
        self._address, self._admin, self._token = address, admin, ""

    def log_in(self) -> None:
        """Get a token, which is valid for a minute."""
        form = {"grant_type": "client_credentials", "client_id": ADMIN, "client_secret": self._admin()}
        url = f"{self._address}/realms/master/protocol/openid-connect/token"
        try:
            answer = self._pool.request_encode_body("POST", url, fields=form, encode_multipart=False)
        except _AWAY as error:
            raise _Away(str(error)) from None
        if answer.status >= 500:
            raise _Away(f"status {answer.status}")
        if answer.status != 200:
            raise Problem(
                f"Keycloak does not accept the secret of the client {ADMIN} (status {answer.status}): its database was "
                "made with another one"
            )
        self._token = json.loads(answer.data)["access_token"]

    def get(self, path: str) -> Json | None:
        """What is at a path; None if there is nothing."""
        answer = self._ask("GET", path)
        return None if answer.status == 404 else json.loads(answer.data)

    def all(self, path: str) -> list[Json]:
        """All entries of a list, which Keycloak gives in pages."""
        found: list[Json] = []
        while True:
            join = "&" if "?" in path else "?"
            answer = self._ask("GET", f"{path}{join}first={len(found)}&max={self.PAGE}")
            page = json.loads(answer.data) if answer.status == 200 else []
            found += page
            if len(page) < self.PAGE:
                return found

    def send(self, method: str, path: str, body: Any = None) -> None:
        """Change something. Raises Problem if Keycloak refuses it."""
        answer = self._ask(method, path, body)
        if answer.status == 404 and method != "DELETE":
            raise Problem(f"{method} {path}: there is no such path")

    def _ask(self, method: str, path: str, body: Any = None) -> urllib3.BaseHTTPResponse:
        for attempt in range(2):
            headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
            sent = json.dumps(body).encode() if body is not None else None
            try:
                answer = self._pool.request(method, f"{self._address}{path}", body=sent, headers=headers)
            except _AWAY as error:
                raise Problem(f"Keycloak does not answer: {error}") from None
            if answer.status != 401 or attempt:
                break
            self.log_in()
        if answer.status >= 400 and answer.status != 404:
            text = answer.data.decode(errors="replace")[:300]
            raise Problem(f"{method} {path}: status {answer.status}: {text}")
        return answer
