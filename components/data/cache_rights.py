"""What a user of the cache may do, as rules of Redis' access control lists. Without imports of other components."""

from __future__ import annotations

ISSUER_RULES = ("+ping", "+hello", "+auth", "+acl|setuser", "+acl|deluser", "+acl|users")
"""Of the secret store's own login: it makes and ends users, and reaches no key itself. A user that it makes may have
every right."""
EXPORTER_RULES = ("+ping", "+info", "+latency|latest", "+slowlog|len", "+slowlog|get")
"""Of the metrics exporter: it reads statistics, and no keys."""


def service_rules(service: str) -> tuple[str, ...]:
    """A service uses keys and channels with its own prefix. It may not run commands that reach other keys or show their
    names."""
    own = (f"~{service}:*", f"&{service}:*")
    return (*own, "+@all", "-@admin", "-@dangerous", "-scan", "-randomkey", "-dbsize")
