"""Content and access rights of the secret store, derived from the services' records. Pure functions.

A service reads the secrets under its own name, uses its own keys, gets its own logins for data servers, and nothing
else.
Only the store's own pods may change rights, and they cannot read secrets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from components.data.cache_rights import service_rules
from components.security.store_names import (
    AUDIENCE,
    CACHE,
    DATABASE_ACCOUNT,
    LONGEST_HOURS,
    NATS,
    POSTGRES,
    REGISTERED,
    issued_name,
    registry,
)
from components.services.record import KeyUse

SECRETS, KEYS, DATABASES = "kv", "transit", "database"
"""Mount paths of engines."""
LOGIN = "kubernetes"
KEEPER, CHECK, OPERATOR = "platform.keeper", "platform.check", "platform.operator"
SNAPSHOTS, DATABASE_TASK = "platform.snapshots", "platform.databases"
"""Roles besides those of the services: the keeper that configures the store, the check of its configuration, people,
the schedule that saves snapshots, and the task that connects the store to data servers. No service's name has a dot."""
SNAPSHOTS_ACCOUNT = f"{AUDIENCE}-snapshots"
"""Name of the schedule that saves snapshots, of its account, its login at the object store, and its bucket."""
ROTATION = "rotation"
"""Begin of the names of secrets whose versions count the rotations of a service's login. They hold no secret value."""
ROTATED = "rotated"
"""Begin of the names of secrets whose versions count the finished rotations of a family of keys."""
TOKEN_SECONDS, LONGEST_SECONDS = 3600, LONGEST_HOURS * 3600
"""A login expires after an hour, and can be renewed for a day. A login for a data server ends with it."""
_ALL = ("create", "read", "update", "delete")
Rules = Mapping[str, tuple[str, ...]]
"""Capabilities by path."""
_SELF: Rules = {
    "auth/token/lookup-self": ("read",),
    "auth/token/renew-self": ("update",),
    "auth/token/revoke-self": ("update",),
}
_LOOK: Rules = {
    "sys/auth": ("read",),
    "sys/mounts": ("read",),
    "sys/policies/acl": ("list",),
    "sys/policies/acl/*": ("read",),
    f"auth/{LOGIN}/role": ("list",),
    f"auth/{LOGIN}/role/*": ("read",),
    "identity/group/id": ("list",),
    "identity/entity/id": ("list",),
    "identity/entity/id/*": ("read",),
    f"{KEYS}/keys": ("list",),
    f"{DATABASES}/roles": ("list",),
    f"{DATABASES}/roles/*": ("read",),
}
_CHANGE: Rules = {
    "sys/auth/*": (*_ALL, "sudo"),
    "sys/mounts/*": _ALL,
    "sys/policies/acl/*": _ALL,
    f"auth/{LOGIN}/role/+": _ALL,
    "identity/group/id/*": ("delete",),
    "identity/entity/id/*": ("read", "update"),
    # Not below, and not in families: the keeper must not rotate, export or delete keys.
    f"{KEYS}/keys/+": ("create", "update"),
    f"{DATABASES}/roles/+": _ALL,
}
_OPERATE: Rules = {
    **_LOOK,
    # Secrets such as a provider's key are written by operators, and read by the service only.
    f"{SECRETS}/data/*": ("create", "update"),
    f"{SECRETS}/metadata/*": ("list", "read"),
    f"{KEYS}/keys/+": ("read",),
    f"{KEYS}/keys/+/rotate": ("update",),
    # A rotation finds and ends logins for data servers. A lease does not show their passwords.
    f"sys/leases/lookup/{DATABASES}/creds/*": ("list", "sudo"),
    "sys/leases/lookup": ("update",),
    f"sys/leases/revoke-prefix/{DATABASES}/creds/*": ("update", "sudo"),
    "sys/storage/raft/configuration": ("read",),
    # People restore a snapshot; the schedule that saves them cannot.
    "sys/storage/raft/snapshot": ("read", "update"),
    "sys/seal": ("update", "sudo"),
    "sys/step-down": ("update", "sudo"),
    # People end registered logins, and cannot register any: whoever can has the service's rights.
    **{f"{SECRETS}/data/{registry(system)}/*": ("deny",) for system in REGISTERED},
    **{f"{SECRETS}/metadata/{registry(system)}/*": ("delete", "list", "read") for system in REGISTERED},
}


class Client(Protocol):
    """What the store needs to know of a service: its record, or an input of the component."""

    @property
    def name(self) -> str:
        """The service, and its service account."""
        ...

    @property
    def store_keys(self) -> Mapping[str, KeyUse]:
        """Its own keys in the store, by name."""
        ...

    @property
    def store_key_families(self) -> Sequence[str]:
        """Its families of keys in the store, by name."""
        ...

    @property
    def database(self) -> bool:
        """Whether the store issues the logins for its PostgreSQL database, which has the service's name."""
        ...

    @property
    def cache(self) -> bool:
        """Whether the store issues the logins for its keys in the cache."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether its pods register their logins for NATS in the store."""
        ...


def content(
    records: Iterable[Client], namespace: str, login_hours: int = 24, cache_login_hours: int = 24
) -> dict[str, Any]:
    """All that the store is to hold besides secrets: engines, policies, roles, keys, and how logins are made.

    `login_hours`, `cache_login_hours`: hours for which a login for PostgreSQL and the cache can be renewed.
    """
    services = {record.name: record for record in records}
    hours = {POSTGRES: login_hours, CACHE: cache_login_hours}
    issued = {
        issued_name(name, system): _ISSUES[system](name, hours[system])
        for name, record in services.items()
        for system in _systems(record)
    }
    registered = sorted({system for record in services.values() for system in _registered(record)})
    connections = sorted({system for record in services.values() for system in _systems(record)})
    families = sorted(family(name, own) for name, record in services.items() for own in record.store_key_families)
    accounts = {
        **{name: name for name in services},
        KEEPER: AUDIENCE,
        CHECK: f"{AUDIENCE}-task",
        OPERATOR: f"{AUDIENCE}-operator",
        SNAPSHOTS: SNAPSHOTS_ACCOUNT,
        **({DATABASE_TASK: DATABASE_ACCOUNT} if connections else {}),
        **{_reader(system): system for system in registered},
    }
    rules: dict[str, Rules] = {
        **{name: _service(record) for name, record in services.items()},
        KEEPER: {**_LOOK, **_CHANGE},
        CHECK: _LOOK,
        OPERATOR: _OPERATE,
        SNAPSHOTS: {"sys/storage/raft/snapshot": ("read",)},
        **({DATABASE_TASK: _connect(connections)} if connections else {}),
        **{_reader(system): _read(system) for system in registered},
    }
    return {
        "engines": {
            SECRETS: {"type": "kv", "options": {"version": "2"}},
            KEYS: {"type": "transit"},
            **{one: {"type": "transit"} for one in families},
            **({DATABASES: {"type": "database"}} if connections else {}),
        },
        "policies": {name: policy(found) for name, found in rules.items()},
        "roles": {name: role(name, account, namespace) for name, account in accounts.items()},
        "keys": {key(name, own): use for name, one in services.items() for own, use in one.store_keys.items()},
        "databases": issued,
    }


def _systems(record: Client) -> list[str]:
    """Data servers for which the store issues the service's logins."""
    return [system for system, wanted in ((POSTGRES, record.database), (CACHE, record.cache)) if wanted]


def _registered(record: Client) -> list[str]:
    """Data servers for which the service's pods register logins."""
    return [NATS] if record.speaks else []


def _reader(system: str) -> str:
    """Role of a data server's pods, which read the registrations."""
    return f"platform.{system}"


def _read(system: str) -> Rules:
    """Read all registrations, and remove those that were not renewed."""
    return {
        f"{SECRETS}/data/{registry(system)}/*": ("read",),
        f"{SECRETS}/metadata/{registry(system)}/*": ("delete", "list"),
    }


def _connect(connections: Iterable[str]) -> Rules:
    return {f"{DATABASES}/config/{one}": ("create", "read", "update") for one in connections}


def beginning(namespace: str, kubernetes: Mapping[str, str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Requests of a new store's initialization as root; the keeper's role can do the rest. (path, data) by name.

    `kubernetes`: configuration of token reviews.
    """
    return {
        "login": (f"sys/auth/{LOGIN}", {"type": LOGIN}),
        "reviewer": (f"auth/{LOGIN}/config", dict(kubernetes)),
        "policy": (f"sys/policies/acl/{KEEPER}", {"policy": policy({**_LOOK, **_CHANGE})}),
        "role": (f"auth/{LOGIN}/role/{KEEPER}", role(KEEPER, AUDIENCE, namespace)),
    }


def key(service: str, name: str) -> str:
    """Name of a service's key. Services' names contain no dot, so it is unambiguous."""
    return f"{service}.{name}"


def family(service: str, name: str) -> str:
    """Engine that holds a family of a service's keys, and nothing else."""
    return f"{KEYS}.{key(service, name)}"


def policy(rules: Rules) -> str:
    """A policy in OpenBao's format. Every role may renew and revoke its own login."""
    paths = {path: {"capabilities": list(can)} for path, can in sorted({**_SELF, **rules}.items())}
    return json.dumps({"path": paths}, indent=1)


def role(name: str, account: str, namespace: str) -> dict[str, Any]:
    """A role for a ServiceAccount, with only the policy of the same name."""
    return {
        "bound_service_account_names": [account],
        "bound_service_account_namespaces": [namespace],
        "audience": AUDIENCE,
        "token_policies": [name],
        "token_no_default_policy": True,
        "token_ttl": TOKEN_SECONDS,
        "token_max_ttl": LONGEST_SECONDS,
        "token_period": 0,
    }


def database_role(owner: str, hours: int) -> dict[str, Any]:
    """How the store makes and ends a login for the database of a service.

    `owner`: role that owns the database and its objects, and that never logs in. A session of a login starts as this
    role, so that all objects belong to it, and has the owner's settings, such as its time limits.
    """
    return {
        "db_name": POSTGRES,
        "creation_statements": [_MAKE_LOGIN.replace("OWNER", owner)],
        "renew_statements": ["ALTER ROLE \"{{name}}\" VALID UNTIL '{{expiration}}'"],
        "revocation_statements": [_END_LOGIN],
        "default_ttl": TOKEN_SECONDS,
        "max_ttl": hours * 3600,
    }


def cache_role(service: str, hours: int) -> dict[str, Any]:
    """How the store makes a login for a service's keys in the cache. The store ends it by deleting the user."""
    return {
        "db_name": CACHE,
        "creation_statements": [json.dumps(["resetkeys", "resetchannels", *service_rules(service)])],
        "default_ttl": TOKEN_SECONDS,
        "max_ttl": hours * 3600,
    }


_ISSUES = {POSTGRES: database_role, CACHE: cache_role}
_MAKE_LOGIN = """DO $$ DECLARE setting text; BEGIN
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE "OWNER";
ALTER ROLE "{{name}}" SET role TO 'OWNER';
FOR setting IN SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = '"OWNER"'::regrole AND setdatabase = 0
LOOP
EXECUTE format('ALTER ROLE "{{name}}" SET %I TO %L', split_part(setting, '=', 1), split_part(setting, '=', 2));
END LOOP;
END $$"""
_END_LOGIN = """DO $$ BEGIN
IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{{name}}') THEN
ALTER ROLE "{{name}}" NOLOGIN;
PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';
DROP ROLE "{{name}}";
END IF;
END $$"""
"""No error where the login is gone, such as after a restore of PostgreSQL: the store would try again for ever."""


def _service(record: Client) -> Rules:
    """It reads the secrets below its own name, uses its own keys, and gets and renews its own logins."""
    found: dict[str, tuple[str, ...]] = {f"{SECRETS}/data/{record.name}/*": ("read",)}
    for system in _systems(record):
        # Only who has got a login knows the name of its lease.
        found |= {
            f"{DATABASES}/creds/{issued_name(record.name, system)}": ("read",),
            "sys/leases/renew": ("update",),
        }
    for system in _registered(record):
        own = f"{registry(system)}/{record.name}.*"
        found |= {
            f"{SECRETS}/data/{own}": ("create", "update"),
            f"{SECRETS}/metadata/{own}": ("delete",),
        }
    for name, use in record.store_keys.items():
        own = key(record.name, name)
        for act in _ACTS[use]:
            found[f"{KEYS}/{act}/{own}"] = ("update",)
        if use is KeyUse.SIGN:
            found[f"{KEYS}/keys/{own}"] = ("read",)  # its public keys
    for name in record.store_key_families:
        engine = family(record.name, name)
        found |= {f"{engine}/keys": ("list",), f"{engine}/keys/+": ("create", "update", "delete")}
        # How many rotations it has finished. It reads how many were asked for.
        found[f"{SECRETS}/data/{record.name}/{ROTATED}.{name}"] = ("create", "read", "update")
        # The configuration of a key allows its deletion. Nothing allows an export.
        found |= {f"{engine}/keys/+/{act}": ("update",) for act in ("config", "rotate")}
        found |= {f"{engine}/{act}/+": ("update",) for act in ("encrypt", "decrypt")}
    return found


_ACTS: Mapping[KeyUse, tuple[str, ...]] = {
    KeyUse.SIGN: ("sign", "verify"),
    KeyUse.ENCRYPT: ("encrypt", "decrypt", "rewrap"),
}
