"""Process beside each Kafka broker: makes and ends the users for logins that pods have registered in the secret store.

A login `<service>.<number>` gets a SCRAM user with its password, and the ACLs of the service, which the setup task
makes. Each round compares what is there with what is registered, so it can be interrupted, and the processes of several
brokers can do the same. A login that has ended loses its ACLs first, which also ends what its open connections may do.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from kit.secret_store import StoreUnavailable

from tasks.common import Problem
from tasks.kafka import ANYTHING, ITERATIONS, as_owner, done, filters, service_of
from tasks.registrations import GRACE_S, Registration, Registry, store

EVERY_S = 1.0
"""Seconds between two looks for new logins."""
ALL_S = 30.0
"""Seconds between two comparisons with the brokers without a change of the registrations."""


class Keeper:
    """Brings the users of the cluster to what is registered."""

    def __init__(self, admin: AdminClient, registry: Registry, services: frozenset[str]) -> None:
        """`services`: those that get their logins in this way."""
        self._admin, self._registry, self._services = admin, registry, services
        self._known = dict[str, Registration]()
        """By login."""
        self._gone = dict[str, float]()
        """Monotonic time since when each user's registration is gone."""
        self._seen: set[str] | None = None
        self._compared = 0.0

    async def round(self) -> None:
        """Make and end users. Raises StoreUnavailable, KafkaException or Problem."""
        await self._look()
        there, now = {*self._known}, time.monotonic()
        if there == self._seen and now - self._compared < ALL_S and not self._gone:
            return
        users = await asyncio.to_thread(_users, self._admin)
        made = {login: self._known[login].value for login in there - users}
        self._gone = {login: self._gone.get(login, now) for login in users - there}
        ended = {login for login, since in self._gone.items() if now - since >= GRACE_S}
        await asyncio.to_thread(self._settle, made, there | users - ended, ended)
        for login in ended:
            del self._gone[login]
            print(f"the login {login} has ended", flush=True)
        self._seen, self._compared = there, now

    async def _look(self) -> None:
        """Read new registrations, and those that may have expired. Expired ones are removed."""
        names = {login for login in await self._registry.names() if service_of(login) in self._services}
        self._known = {login: one for login, one in self._known.items() if login in names}
        for login in names:
            if login in self._known and self._known[login].until > time.time():
                continue
            self._known.pop(login, None)
            if (found := await self._registry.read(login)) is None:
                continue
            if found.until > time.time():
                self._known[login] = found
            else:
                await self._registry.remove(login)

    def _settle(self, made: dict[str, str], present: set[str], ended: set[str]) -> None:
        """Bring ACLs and users to this state. A user has its ACLs before its password, and loses them first."""
        there: set[AclBinding] = set(self._admin.describe_acls(ANYTHING).result(60))
        wanted = {
            _of(binding, login)
            for login in present
            for binding in there
            if binding.principal == f"User:{service_of(login)}"
        }
        issued = {one for one in there if service_of(one.principal.removeprefix("User:")) in self._services}
        if missing := list(wanted - there):
            done(self._admin.create_acls(missing))
        if stale := issued - wanted:
            done(self._admin.delete_acls(filters(stale)))
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        if made:
            changes = [UserScramCredentialUpsertion(login, info, secret.encode()) for login, secret in made.items()]
            done(self._admin.alter_user_scram_credentials(changes))
        if ended:
            gone = [UserScramCredentialDeletion(login, ScramMechanism.SCRAM_SHA_512) for login in ended]
            done(self._admin.alter_user_scram_credentials(gone), "RESOURCE_NOT_FOUND")


def _of(binding: AclBinding, login: str) -> AclBinding:
    """The same right for a login."""
    return AclBinding(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        f"User:{login}",
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def _users(admin: AdminClient) -> set[str]:
    """Issued users that the cluster has."""
    found: dict[str, Any] = admin.describe_user_scram_credentials().result(60)
    return {user for user in found if service_of(user)}


async def _run() -> None:
    services = frozenset(json.loads(os.environ["ISSUED"]))
    keeper = Keeper(AdminClient(as_owner()), Registry(store("kafka"), "kafka", "password"), services)
    said = ""
    while True:
        try:
            await keeper.round()
            problem = ""
        except (StoreUnavailable, KafkaException, Problem, LookupError, TimeoutError, ValueError) as error:
            problem = f"logins are not made now: {error!r}"
        if problem != said:
            print(problem or "logins are made again", flush=True)
            said = problem
        await asyncio.sleep(EVERY_S)


def main() -> None:
    """Run until the pod ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # PID 1 has no default handler; nothing is left to do
    asyncio.run(_run())
