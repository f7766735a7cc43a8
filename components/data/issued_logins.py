"""Logins that the secret store issues: the connections of the store to PostgreSQL and to the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from components.data.server import service_account
from components.data.task import DataTask, TaskInputs
from components.pods import PodArgs
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
    customize: PodArgs
    """Settings of the pods of the task; empty: none."""
    issued: Mapping[str, Sequence[str]]
    """Services that get their logins there, by data server."""
    address: pulumi.Input[str]
    """The URL, known before the store works."""


@dataclass(frozen=True)
class Issuer:
    """A secret store that is connected to the data servers."""

    url: pulumi.Input[str]
    authority: pulumi.Input[str]
    task: DataTask | None
    """Task that connects the store to data servers; None: pods register all logins."""


def connect(
    name: str,
    namespace: str,
    store: StoreSite,
    servers: Mapping[str, pulumi.Input[str]],
    logins: Logins,
    opts: pulumi.ResourceOptions,
) -> Issuer:
    """Give the store its own login at each server, whose address is known once the logins there exist.

    `servers`: address of each data server by the variable of the task: PGHOST (host or host:port), CACHE_URL.

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
            environment={**servers, "STORE_ADDRESS": store.url, "STORE_AUTHORITY": store.authority},
            audiences=(AUDIENCE,),
            mounts={f"/etc/credentials/{ISSUER}": logins.secret(ISSUER)},
            versions=(logins.versions[ISSUER],),
            customize=store.customize,
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[account])),
    )
    connected = pulumi.Output.all(store.url, task.done).apply(lambda known: str(known[0]))
    return Issuer(connected, store.authority, task)
