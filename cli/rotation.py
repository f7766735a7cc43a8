"""What can be rotated in an environment, and its rotation without a failed request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli import cluster, documents, jobs, output, stack
from components.config.platform import PlatformConfig
from components.data.needs import login_systems
from components.security.store_names import AUDIENCE, CACHE, LONGEST_HOURS, NATS, POSTGRES
from local.errors import LocalError

_TASK = "rotation"
_RESTARTS = "raise data.credentialsGeneration in the stack file, then run `forge up`, which restarts pods one by one"
_ONE_PASSWORD = "the platform keeps one password of this login, so servers and clients change at the same moment"
_NO_STORE = "without security.secretStore, " + _ONE_PASSWORD
_OWN = "a service of your own need not use the kit, which replaces logins, so it has one password"
_PART = "this login belongs to a part of the platform, whose programs take no logins of the secret store"
_RDS = "the connection pool in front of RDS needs the password beforehand, so this login has one password"


class Kind(StrEnum):
    """What a secret is; the value is its field in the request to the store."""

    LOGIN = "secrets"
    KEY = "keys"
    FAMILY = "families"
    """Keys of one kind, such as one for each tenant, which rotate together."""


@dataclass(frozen=True)
class Secret:
    """A secret that can be rotated, or the reason why it cannot."""

    name: str
    """<system>/<login>, or <service>/<key>."""
    schedule: str
    last: str = ""
    """Time of the last rotation that was asked for; empty if there was none."""
    logins: int = 0
    """Logins in use."""
    refusal: str = ""
    """Why it cannot be rotated without a restart; empty if it can."""
    problem: str = ""
    """Why its rotation failed."""
    rotated: bool = False
    kind: Kind = Kind.LOGIN


def names(config: PlatformConfig) -> Iterator[Secret]:
    """All secrets of an environment, without their state."""
    issued, store = config.around.issued, config.security.secret_store
    hours = {POSTGRES: store.login_hours, CACHE: store.cache_login_hours, NATS: LONGEST_HOURS} if store else {}
    for system, services in issued.items():
        for service in services:
            yield Secret(f"{system}/{service}", f"every {hours[system]} h at the latest")
    for record in config.around.records.values() if store else ():
        for key in record.store_keys:
            yield Secret(f"{record.name}/{key}", "none", kind=Kind.KEY)
        for family in record.store_key_families:
            yield Secret(f"{record.name}/{family}", "none", kind=Kind.FAMILY)
    systems = login_systems(config.data, config.around.records, (), config.security.databases, issued)
    for login, found in systems.items():
        for system in found:
            yield Secret(f"{system}/{login}", "none", refusal=_refusal(config, system, login))


def _refusal(config: PlatformConfig, system: str, login: str) -> str:
    """Why a login cannot be rotated without a restart."""
    record = config.around.records.get(login)
    if record is None:
        return _PART
    if system not in (POSTGRES, CACHE, NATS):
        return _ONE_PASSWORD
    if config.security.secret_store is None:
        return _NO_STORE
    return _OWN if record.custom else _RDS


def listed(stack_name: str) -> list[Secret]:
    """All secrets with their state."""
    config = stack.read_config(stack_name)
    return _with_state(config, list(names(config)), rotate=False)


def rotated(stack_name: str, chosen: Sequence[str]) -> list[Secret]:
    """Rotate the named secrets, or without names all that need no restart. Raises LocalError for a name that cannot."""
    config = stack.read_config(stack_name)
    known = {one.name: one for one in names(config)}
    if unknown := [name for name in chosen if name not in known]:
        raise LocalError(
            f"there is no secret {', '.join(unknown)}",
            reason="see `forge rotate` for all names",
            fix="correct the name",
        )
    if refused := [known[name] for name in chosen if known[name].refusal]:
        raise LocalError(
            f"{', '.join(one.name for one in refused)} cannot be rotated without a restart",
            reason="; ".join(dict.fromkeys(one.refusal for one in refused)),
            fix=_RESTARTS,
        )
    found = [one for name, one in known.items() if (name in chosen or not chosen) and not one.refusal]
    if not found:
        raise LocalError(
            "nothing can be rotated without a restart",
            reason="security.secretStore is off, or no service has a database, a cache or NATS in the cluster",
            fix=f"add security.secretStore, or {_RESTARTS}",
        )
    return _with_state(config, found, rotate=True)


def _with_state(config: PlatformConfig, secrets: list[Secret], *, rotate: bool) -> list[Secret]:
    asked = [one for one in secrets if not one.refusal]
    if not asked:
        return secrets
    state = _ask(config, asked, rotate=rotate)
    return [
        replace(
            one,
            last=found["at"],
            logins=found["logins"],
            problem=found["problem"],
            rotated=rotate and not found["problem"],
        )
        if (found := state.get(one.name)) and not one.refusal
        else one
        for one in secrets
    ]


def _ask(config: PlatformConfig, secrets: Sequence[Secret], *, rotate: bool) -> dict[str, dict[str, Any]]:
    """State by name, from the store, by the keeper's container with a token of the operator for ten minutes."""
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    base = [*command, "--namespace", config.cluster.namespace]
    pods = {
        one["metadata"]["name"]: int(one.get("status", {}).get("readyReplicas", 0))
        for one in json.loads(jobs.kubectl(base, _TASK, "get", "deployments", "-o", "json"))["items"]
    }
    token = jobs.kubectl(
        base, _TASK, "create", "token", f"{AUDIENCE}-operator", "--audience", AUDIENCE, "--duration", "10m"
    ).strip()
    names = {kind: [one.name for one in secrets if one.kind is kind] for kind in Kind}
    logins = {name: pods.get(name.partition("/")[2], 0) for name in names[Kind.LOGIN]}
    asked = {**names, Kind.LOGIN: logins, "token": token, "rotate": rotate}
    place = ("exec", "-i", f"{AUDIENCE}-0", "-c", "keeper", "--")
    said = jobs.kubectl(base, _TASK, *place, "python3", "-m", "baonode", "rotation", given=json.dumps(asked))
    return {one["secret"]: one for one in json.loads(said)}


def show(secrets: Sequence[Secret]) -> None:
    """Print the secrets as a table."""
    table = Table(box=None, pad_edge=False)
    for title in ("NAME", "LAST ROTATED", "SCHEDULE", "LOGINS", "NOTE"):
        table.add_column(title)
    for one in secrets:
        last = one.last[:19].replace("T", " ") or "-"
        note = one.problem or ("rotated" if one.rotated else "") or ("needs a restart" if one.refusal else "")
        table.add_row(one.name, last, one.schedule, str(one.logins) if one.logins else "-", escape(note))
    output.console.print(table)
    if any(one.refusal for one in secrets):
        output.line(f"To rotate what needs a restart, {_RESTARTS}.")


def document(secrets: Sequence[Secret]) -> documents.Rotation:
    """The document of `forge rotate`."""
    return documents.Rotation(
        secrets=[
            documents.RotatedSecret(
                name=one.name,
                schedule=one.schedule,
                last=one.last or None,
                logins=one.logins,
                rotated=one.rotated,
                reason=one.problem or one.refusal,
            )
            for one in secrets
        ]
    )
