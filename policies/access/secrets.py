"""Kubernetes Secrets: which pods read which entry of which Secret of logins."""

from __future__ import annotations

from components.config.platform import PlatformConfig
from policies.access import uses
from policies.access.model import Access, Layer
from policies.access.objects import Rendered

READ = "read"
_LOGIN = "login-"
_SYSTEMS = {
    uses.POSTGRES: "postgres",
    uses.KAFKA: "kafka",
    uses.NATS: "nats",
    uses.CACHE: "cache",
    uses.OBJECTS: "objects",
}
"""Entry of a login's Secret for each part."""


def granted(rendered: Rendered) -> dict[Access, str]:
    """Entries of logins' Secrets that pods of services get, as variables or as files."""
    found = dict[Access, str]()
    for workload in rendered.workloads.values():
        for (secret, entry), by in workload.secrets.items():
            if isinstance(secret, str) and secret.startswith(_LOGIN):
                found[Access(workload.name, READ, f"{entry} of {secret}")] = by
    return found


def intended(config: PlatformConfig, rendered: Rendered) -> dict[Access, str]:
    """A service reads its own passwords. Servers and their setup tasks read those of their clients."""
    found = dict[Access, str]()
    data, records = config.data, uses.records(config)
    there = {
        uses.POSTGRES: data.postgres,
        uses.KAFKA: data.kafka,
        uses.NATS: data.nats,
        uses.CACHE: data.cache,
        uses.OBJECTS: data.object_store if data.object_store and not data.object_store.s3 else None,
    }
    for name, record in records.items():
        for part, reason in uses.uses(record):
            if part == uses.POSTGRES and name in uses.issued(config):
                continue  # the secret store issues it, and no Secret has it
            if part == uses.CACHE and name in uses.issued_cache(config):
                continue
            if part == uses.NATS and name in uses.issued_nats(config):
                continue
            if part in _SYSTEMS and there[part]:
                found[Access(name, READ, f"{_SYSTEMS[part]} of {_LOGIN}{name}")] = reason
        if record.keeps_keys and config.security.keycloak:
            found[Access(name, READ, f"secret of {_LOGIN}keycloak-portal")] = "it logs people in"
        held = record.own_secrets if record.holds_secrets(config.services.there[name]) else ()
        for secret in held:
            found[Access(name, READ, f"{secret} of {_LOGIN}{name}-keys")] = f"record of {name}: own_secrets"
    # Parts of the data layer check or set passwords; what they mount is theirs to have. Services must not.
    for access in granted(rendered):
        if access.who not in records:
            found[access] = "a server, a setup task or an exporter of the data layer"
    return found


def _holder(access: Access, rendered: Rendered) -> str:
    return f"the pods of {access.who}"


LAYER = Layer(
    "secrets",
    "Secrets of logins",
    "Which service's pods get which entry of which login's Secret. Servers and setup tasks of the data layer hold "
    "their clients' passwords and are listed, not compared.",
    granted,
    intended,
    _holder,
)
