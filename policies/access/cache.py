"""Users of the cache: which login reaches which keys and channels, and what it may do to others.

Semantics: Redis documentation, "Access Control List". Rules apply from left to right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from components.config.platform import PlatformConfig
from policies.access import store, uses
from policies.access.model import Access, Layer
from policies.access.objects import Rendered

FOREIGN = "unknown"
"""A prefix that no login has; it stands for all others."""
EXPORTER = "cache"
CONNECTION = "cache"
"""Connection of the secret store to the cache, and end of the names of roles for it."""
ADMINISTER, NAMES, KEYS, CHANNELS = "administer", "list the names of", "use", "use the channels of"
_LISTING = frozenset({"scan", "randomkey", "keys", "dbsize"})
"""Commands that show keys of others, since they take no key that a pattern could refuse."""
_CATEGORIES: Mapping[str, frozenset[str]] = {
    "admin": frozenset({"config", "acl", "shutdown", "replicaof", "monitor", "debug", "save", "bgsave"}),
    "dangerous": frozenset(
        {"config", "acl", "shutdown", "replicaof", "monitor", "debug", "flushall", "flushdb", "keys", "swapdb", "info"}
    ),
    "keyspace": frozenset({"scan", "randomkey", "keys", "dbsize", "flushall", "flushdb", "swapdb", "del", "expire"}),
    "read": frozenset({"get", "scan", "randomkey", "keys", "dbsize"}),
    "write": frozenset({"set", "del", "expire", "flushall", "flushdb", "swapdb"}),
    "connection": frozenset({"ping", "auth"}),
    "pubsub": frozenset({"publish", "subscribe"}),
}
"""Commands of each category, as far as the layer looks at them. Source: Redis 7, `ACL CAT`."""
_ALL = frozenset().union(*_CATEGORIES.values(), {"latency", "slowlog"})
_ADMIN = frozenset({"config", "acl", "shutdown", "replicaof", "monitor", "debug", "flushall", "flushdb", "swapdb"})


@dataclass
class User:
    """A user after all its rules."""

    name: str
    on: bool = False
    password: bool = True
    keys: list[str] = field(default_factory=list[str])
    channels: list[str] = field(default_factory=list[str])
    commands: set[str] = field(default_factory=set[str])


def parse(text: str) -> Iterator[User]:
    """Users of an ACL file. Raises ValueError for a rule that this layer does not know."""
    for line in text.splitlines():
        if not line.strip():
            continue
        word, name, *rules = line.split()
        if word != "user":
            raise ValueError(f'a line of the ACL file begins with "{word}"')
        user = User(name)
        for rule in rules:
            _apply(user, rule)
        yield user


def _apply(user: User, rule: str) -> None:
    if rule in ("on", "off"):
        user.on = rule == "on"
    elif rule == "nopass":
        user.password = False
    elif rule.startswith(("#", ">")):
        user.password = True
    elif rule == "resetkeys":
        user.keys.clear()
    elif rule == "resetchannels":
        user.channels.clear()
    elif rule in ("allkeys", "~*"):
        user.keys.append("*")
    elif rule in ("allchannels", "&*"):
        user.channels.append("*")
    elif rule.startswith(("~", "%RW~", "%R~", "%W~")):
        user.keys.append(rule.partition("~")[2])
    elif rule.startswith("&"):
        user.channels.append(rule[1:])
    elif rule in ("allcommands", "+@all"):
        user.commands |= _ALL
    elif rule in ("nocommands", "-@all"):
        user.commands.clear()
    elif rule.startswith(("+@", "-@")):
        if rule[2:] not in _CATEGORIES:
            raise ValueError(f'the category "{rule[2:]}" is unknown here')
        change = _CATEGORIES[rule[2:]]
        user.commands = user.commands | change if rule[0] == "+" else user.commands - change
    elif rule.startswith("+"):
        user.commands.add(rule[1:].partition("|")[0])
    elif rule.startswith("-"):
        user.commands.discard(rule[1:])
    else:
        raise ValueError(f'the rule "{rule}" is unknown here')


@lru_cache
def _glob(pattern: str) -> re.Pattern[str]:
    """Redis' glob pattern as a regular expression; `*` also matches separators."""
    text = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".").replace(r"\[", "[").replace(r"\]", "]")
    return re.compile(text, re.DOTALL)


def _reaches(patterns: list[str], key: str) -> bool:
    return any(_glob(pattern).fullmatch(key) for pattern in patterns)


def _users(rendered: Rendered) -> Iterator[tuple[User, str]]:
    """Users of the ACL file, and those that the secret store makes for services, each with what allows it."""
    for secret in rendered.of_kind("Secret"):
        for user in parse(secret.texts.get("users.acl", "")):
            yield user, f"{secret.title}, user {user.name}"
    declared, title = store.content(rendered)
    for name, role in declared.get("databases", {}).items():
        if role["db_name"] != CONNECTION:
            continue
        # OpenBao's Valkey plugin takes the first statement only, and adds a password.
        user = User(name.removesuffix(f".{CONNECTION}"), on=True)
        for rule in json.loads(role["creation_statements"][0]):
            _apply(user, rule)
        yield user, f"{title}, role {name}"


def granted(rendered: Rendered) -> dict[Access, str]:
    """All that users may do: those of the ACL file, and those that the secret store makes."""
    found = dict[Access, str]()
    users = list(_users(rendered))
    if users:
        prefixes = sorted({*(user.name for user, _ in users), FOREIGN})
        for user, by in users:
            if not user.on:
                continue
            who = user.name if user.password else "anybody"
            data = user.commands & {"get", "set"}
            for prefix in prefixes:
                if data and _reaches(user.keys, f"{prefix}:x"):
                    found[Access(who, KEYS, f"keys {prefix}:*")] = by
                if "publish" in user.commands and _reaches(user.channels, f"{prefix}:x"):
                    found[Access(who, CHANNELS, f"{prefix}:*")] = by
            if user.commands & _LISTING:
                found[Access(who, NAMES, "all keys")] = by
            if user.commands & _ADMIN:
                found[Access(who, ADMINISTER, "the cache")] = by
    return found


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """Each service with a cache user uses its own keys."""
    found = dict[Access, str]()
    if config.data.cache is None:
        return found
    for name, record in uses.records(config).items():
        if record.cache:
            found[Access(name, KEYS, f"keys {name}:*")] = f"record of {name}: cache"
            found[Access(name, CHANNELS, f"{name}:*")] = f"record of {name}: cache"
    if uses.issued_cache(config):
        found[Access(uses.STORE, ADMINISTER, "the cache")] = "security.secretStore: it makes and ends logins"
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    found = (s.title for s in rendered.of_kind("Secret") if "users.acl" in s.texts)
    return f"{next(found, 'the ACL file of the cache')}, user {access.who}"


LAYER = Layer(
    "cache",
    "Cache users",
    "Which login uses the keys and channels below which prefix, sees names of keys, or administers the server. One "
    "prefix that no login has stands for all others.",
    granted,
    intended,
    _holder,
)
