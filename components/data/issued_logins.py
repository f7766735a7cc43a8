"""Logins for PostgreSQL that the secret store issues: the connection of the store to the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.data.server import service_account
from components.data.task import DataTask, TaskInputs
from components.security.logins import Logins
from components.security.store_names import AUDIENCE, DATABASE_ACCOUNT, ISSUER


@dataclass(frozen=True)
class StoreSite:
    """A secret store that issues logins."""

    url: pulumi.Input[str]
    authority: pulumi.Input[str]
    """CA certificate (PEM) of the store."""
    image: pulumi.Input[str]
    """Image of the store, by digest."""
    issued: Sequence[str]
    """Services that get their logins there."""


@dataclass(frozen=True)
class Issuer:
    """A secret store that is connected to PostgreSQL."""

    url: pulumi.Input[str]
    authority: pulumi.Input[str]


def connect(
    name: str,
    namespace: str,
    store: StoreSite,
    server: pulumi.Input[str],
    logins: Logins,
    opts: pulumi.ResourceOptions,
) -> Issuer:
    """Give the store its own login at the server, whose address is known once the logins there exist.

    The task has an account of its own, which may write this connection and nothing else.
    """
    account = service_account(name, namespace, DATABASE_ACCOUNT, opts)
    task = DataTask(
        name,
        TaskInputs(
            namespace=namespace,
            image=store.image,
            arguments=("databases",),
            part=AUDIENCE,
            name=DATABASE_ACCOUNT,
            layer="security",
            environment={"PGHOST": server, "STORE_ADDRESS": store.url, "STORE_AUTHORITY": store.authority},
            audiences=(AUDIENCE,),
            mounts={f"/etc/credentials/{ISSUER}": logins.secret(ISSUER)},
            versions=(logins.versions[ISSUER],),
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[account])),
    )
    connected = pulumi.Output.all(store.url, task.done).apply(lambda known: str(known[0]))
    return Issuer(connected, store.authority)
