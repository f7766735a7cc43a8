"""The secret store's policies: which service account does what to which path.

Semantics: OpenBao documentation, "Policies". Of all paths of a policy that match, the most specific decides alone.
`*` at the end stands for any rest, `+` for one segment. `deny` wins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.config.platform import PlatformConfig
from components.services.record import KeyUse
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Rendered

KEEPER, TASK, OPERATOR = "secret-store", "secret-store-task", "secret-store-operator"
FOREIGN = "unknown"
"""A service, a key and a path that no record names; it stands for all others."""
_ACTS: Mapping[KeyUse, tuple[str, ...]] = {
    KeyUse.SIGN: ("sign", "verify"),
    KeyUse.ENCRYPT: ("encrypt", "decrypt", "rewrap"),
}
_FAMILY = "transit."
"""Begin of the names of engines that hold a family of keys."""
_CHANGES = {"create", "update", "patch", "delete", "sudo"}


def specificity(pattern: str) -> tuple[int, bool, int, int, str]:
    """Rank of a path of a policy; the highest of all that match decides."""
    wilds = (position for position in (pattern.find("+"), pattern.find("*")) if position >= 0)
    wild = min(wilds, default=len(pattern) + 1)
    return wild, not pattern.endswith("*"), -pattern.count("+"), len(pattern), pattern


def covers(pattern: str, path: str) -> bool:
    """Whether a path of a policy matches a request's path."""
    text = "".join("[^/]+" if c == "+" else re.escape(c) for c in pattern.removesuffix("*"))
    return re.fullmatch(text + (".*" if pattern.endswith("*") else ""), path) is not None


def capabilities(policies: list[Mapping[str, Any]], path: str) -> set[str]:
    """What the policies of a token allow at a path."""
    found = set[str]()
    for policy in policies:
        matching = [pattern for pattern in policy["path"] if covers(pattern, path)]
        if matching:
            found |= set(policy["path"][max(matching, key=specificity)]["capabilities"])
    return set() if "deny" in found else found


def content(rendered: Rendered) -> tuple[dict[str, Any], str]:
    """What the keeper makes in the store, and the object that says so."""
    for one in rendered.of_kind("ConfigMap", "Secret"):
        for text in one.texts.values():
            if text.startswith("{") and '"token_policies"' in text:
                found = json.loads(text)
                return found.get("content", found), one.title
    return {}, ""


def _requests(content: Mapping[str, Any]) -> Iterator[tuple[str, str, str, set[str]]]:
    """(action, target, path, any of these capabilities) over all services, keys and administrative paths."""
    names = sorted({name for name in content["policies"] if "." not in name} | {FOREIGN})
    for name in names:
        yield "read", f"secrets of {name}", f"kv/data/{name}/x", {"read"}
        yield "write", f"secrets of {name}", f"kv/data/{name}/x", _CHANGES
        yield "get", f"logins for the database {name}", f"database/creds/{name}", {"read"}
        yield "end", f"logins for the database {name}", f"sys/leases/revoke-prefix/database/creds/{name}/x", {"update"}
        yield "change", f"logins for the database {name}", f"database/roles/{name}", _CHANGES
        cached = f"logins for the cache of {name}"
        yield "get", cached, f"database/creds/{name}.cache", {"read"}
        yield "end", cached, f"sys/leases/revoke-prefix/database/creds/{name}.cache/x", {"update"}
        yield "change", cached, f"database/roles/{name}.cache", _CHANGES
        speaking = f"logins for NATS of {name}"
        yield "register", speaking, f"kv/data/logins.nats/{name}.x", {"create", "update"}
        yield "read", speaking, f"kv/data/logins.nats/{name}.x", {"read"}
        yield "end", speaking, f"kv/metadata/logins.nats/{name}.x", {"delete"}
    for key in sorted({*content["keys"], f"{FOREIGN}.key"}):
        for act in ("sign", "verify", "encrypt", "decrypt", "rewrap", "hmac"):
            yield act, f"with the key {key}", f"transit/{act}/{key}", {"update", "create"}
        yield "see", f"the key {key}", f"transit/keys/{key}", {"read"}
        yield "make", f"the key {key}", f"transit/keys/{key}", {"create", "update"}
        yield "delete", f"the key {key}", f"transit/keys/{key}", {"delete"}
        yield "rotate", f"the key {key}", f"transit/keys/{key}/rotate", {"update", "create"}
        yield "export", f"the key {key}", f"transit/export/encryption-key/{key}/latest", {"read"}
        yield "reconfigure", f"the key {key}", f"transit/keys/{key}/config", {"update", "create"}
    for family in sorted({*(one for one in content["engines"] if one.startswith(_FAMILY)), f"{_FAMILY}{FOREIGN}.keys"}):
        target = f"the keys {family.removeprefix(_FAMILY)}"
        for act in ("sign", "verify", "encrypt", "decrypt", "rewrap", "hmac"):
            yield act, f"with {target}", f"{family}/{act}/x", {"update", "create"}
        counted = family.removeprefix(_FAMILY).replace(".", "/rotated.", 1)
        yield "count", f"finished rotations of {target}", f"kv/data/{counted}", _CHANGES
        yield "list", target, f"{family}/keys", {"list"}
        yield "see", target, f"{family}/keys/x", {"read"}
        yield "make", target, f"{family}/keys/x", {"create", "update"}
        yield "delete", target, f"{family}/keys/x", {"delete"}
        yield "rotate", target, f"{family}/keys/x/rotate", {"update", "create"}
        yield "reconfigure", target, f"{family}/keys/x/config", {"update", "create"}
        for way in ("export/encryption-key", "backup"):
            yield "export", target, f"{family}/{way}/x", {"read"}
    for what, path in (
        ("policies", "sys/policies/acl/x"),
        ("roles", "auth/kubernetes/role/x"),
        ("engines", "sys/mounts/x"),
        ("ways to log in", "sys/auth/x"),
        ("the connection to PostgreSQL", "database/config/postgres"),
        ("the connection to the cache", "database/config/cache"),
    ):
        yield "change", what, path, _CHANGES
    yield "seal", "the store", "sys/seal", {"update"}
    yield "take", "a snapshot", "sys/storage/raft/snapshot", {"read"}
    yield "restore", "a snapshot", "sys/storage/raft/snapshot", {"update"}
    yield "make", "a root token", "sys/generate-root/attempt", {"update", "create"}


def granted(rendered: Rendered) -> dict[Access, str]:
    """All that the roles' policies allow, by service account."""
    declared, title = content(rendered)
    found = dict[Access, str]()
    for role, settings in (declared.get("roles") or {}).items():
        chosen = [*settings["token_policies"], *([] if settings.get("token_no_default_policy") else ["default"])]
        policies = [json.loads(declared["policies"][one]) for one in chosen if one in declared["policies"]]
        spaces = settings["bound_service_account_namespaces"]
        for account in settings["bound_service_account_names"]:
            who = account if spaces == [rendered.namespace] else f"{account} of the namespaces {', '.join(spaces)}"
            for action, target, path, wanted in _requests(declared):
                if capabilities(policies, path) & wanted:
                    found[Access(who, action, target)] = f"{title}, role {role}"
    return found


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """Services use what is theirs, the keeper configures, people write secrets and end logins."""
    found = dict[Access, str]()
    if not config.security.secret_store:
        return found
    records, keys, families = uses.records(config), list[str](), list[str]()
    for name, record in records.items():
        found[Access(name, "read", f"secrets of {name}")] = f"record of {name}"
        if name in uses.issued(config):
            found[Access(name, "get", f"logins for the database {name}")] = f"record of {name}: database"
        if name in uses.issued_cache(config):
            found[Access(name, "get", f"logins for the cache of {name}")] = f"record of {name}: cache"
        if name in uses.issued_nats(config):
            for act in ("register", "end"):
                found[Access(name, act, f"logins for NATS of {name}")] = f"record of {name}: it uses NATS"
        for own, use in record.store_keys.items():
            key, reason = f"{name}.{own}", f"record of {name}: store_keys"
            keys.append(key)
            for act in _ACTS[use]:
                found[Access(name, act, f"with the key {key}")] = reason
            if use is KeyUse.SIGN:
                found[Access(name, "see", f"the key {key}")] = reason
        for own in record.store_key_families:
            target, reason = f"the keys {name}.{own}", f"record of {name}: store_key_families"
            for act in ("list", "make", "delete", "rotate", "reconfigure"):
                found[Access(name, act, target)] = reason
            for act in ("encrypt", "decrypt"):
                found[Access(name, act, f"with {target}")] = reason
            families.append(target)
            found[Access(name, "count", f"finished rotations of {target}")] = reason
    for what in ("policies", "roles", "engines", "ways to log in"):
        found[Access(KEEPER, "change", what)] = "the keeper makes what is declared"
    if uses.issued(config):
        target = "the connection to PostgreSQL"
        found[Access(uses.DATABASE_TASK, "change", target)] = "the task connects the store to PostgreSQL"
    if uses.issued_cache(config):
        target = "the connection to the cache"
        found[Access(uses.DATABASE_TASK, "change", target)] = "the task connects the store to the cache"
    for target in (*families, f"the keys {FOREIGN}.keys"):
        why = "people write secrets, such as a provider's key"
        found[Access(OPERATOR, "count", f"finished rotations of {target}")] = why
    for key in (*keys, f"{FOREIGN}.key"):
        found[Access(KEEPER, "make", f"the key {key}")] = "the keeper makes what is declared"
        found[Access(OPERATOR, "see", f"the key {key}")] = "people see versions of keys"
        found[Access(OPERATOR, "rotate", f"the key {key}")] = "people rotate keys"
    for name in (*records, FOREIGN):
        found[Access(OPERATOR, "write", f"secrets of {name}")] = "people write secrets, such as a provider's key"
        for logins in (f"logins for the database {name}", f"logins for the cache of {name}"):
            found[Access(OPERATOR, "end", logins)] = "a rotation ends replaced logins"
            found[Access(KEEPER, "change", logins)] = "the keeper makes what is declared"
        found[Access(OPERATOR, "end", f"logins for NATS of {name}")] = "a rotation ends replaced logins"
        if uses.issued_nats(config):
            for act in ("read", "end"):
                found[Access(uses.NATS, act, f"logins for NATS of {name}")] = "NATS' servers look logins up"
    found[Access(OPERATOR, "seal", "the store")] = "people seal in an emergency"
    for act in ("take", "restore"):
        found[Access(OPERATOR, act, "a snapshot")] = "people take and restore snapshots"
    found[Access(uses.SNAPSHOTS, "take", "a snapshot")] = "the schedule saves snapshots"
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    return f"{content(rendered)[1] or 'the content of the secret store'}, policy {access.who}"


LAYER = Layer(
    "store",
    "Secret store",
    "Which service account reads or writes whose secrets, does what with which key, and administers the store. One "
    "service and one key that no record names stand for all others.",
    granted,
    intended,
    _holder,
)
