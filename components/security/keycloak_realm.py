"""Realm of people: a task brings it to what is declared, and shows the differences first."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import pulumi

from components.base import PlatformComponent
from components.config.security import Keycloak as KeycloakConfig
from components.data.document import document
from components.data.task import DataTask, TaskInputs
from components.pods import PodArgs
from components.security import realm
from components.security.keycloak import ADMIN, SECRET, Keycloak
from components.security.keycloak import PART as SERVER
from components.security.logins import Logins

PART = f"{SERVER}-realm"


class KeycloakRealmArgs(TypedDict):
    """Inputs of the realm."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    """Image of the data tasks."""
    keycloak: Keycloak
    url: str
    """URL of the platform for people's browsers."""
    customize: PodArgs
    """Settings of the pods of its task; empty: none."""
    grafana: bool
    """Whether people log in to Grafana."""


class KeycloakRealmResources(NamedTuple):
    """Resources of the realm."""

    clients: Logins
    """Secrets of the clients that keep one, by login."""
    task: DataTask


class KeycloakRealm(PlatformComponent):
    """The clients' secrets, and the task that applies the declaration."""

    ready: pulumi.Output[str]
    """Name of the task's Job, known once the realm is as declared."""

    def __init__(
        self,
        name: str,
        config: KeycloakConfig,
        args: KeycloakRealmArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        declared = realm.declared(config, args["url"], grafana=args["grafana"])
        super().__init__("security", name, {"realm": realm.REALM}, opts)
        namespace, keycloak = args["namespace"], args["keycloak"]
        secrets = {client.login: [SECRET] for client in declared.clients if client.login}
        self.clients = Logins(f"{name}-clients", {"namespace": namespace, "logins": secrets}, self.child())
        written = document(f"{name}-content", "realm", (namespace, PART), SERVER, declared.content, self.child())
        mounts = {f"/etc/credentials/{login}": self.clients.secret(login) for login in secrets}
        task = DataTask(
            name,
            TaskInputs(
                namespace=namespace,
                image=args["image"],
                arguments=("realm",),
                part=SERVER,
                environment={"ENDPOINT": keycloak.url, "AUTHORITY": keycloak.authority},
                mounts={**mounts, f"/etc/credentials/{ADMIN}": keycloak.admin["secret_name"]},
                versions=tuple(self.clients.versions.values()),
                customize=args["customize"],
                documents=(written,),
            ),
            self.child(),
        )
        self.ready = task.done
        self.resources = KeycloakRealmResources(self.clients, task)
        self.finish({"kind": "Job", "namespace": namespace, "name": task.done, "probe": "the realm is as declared"})
