"""Keycloak: logins of people with OpenID Connect. It keeps its users and sessions in a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired

import pulumi
from pydantic import Field

from components import secret_files
from components.ai.service import collector_spec, network_policy, outlet_spec
from components.base import PlatformComponent, fingerprint, labels
from components.config.base import DnsLabel, Resources
from components.config.providers import HttpsAddress
from components.config.security import REALM
from components.config.security import Keycloak as KeycloakConfig
from components.config.web import destination
from components.data.credentials import Credentials
from components.data.postgres_cluster import DIRECT_PORT
from components.data.server import DataServer, Process, ServerInputs, ServerIntent, task_name
from components.inputs import LoginArgs, ResourcesArgs, Server, ServerArgs, Text, checked, same_as
from components.security.certificate import Certificate
from components.security.logins import Logins

PART = "keycloak"
HTTPS_PORT, HTTP_PORT, MANAGEMENT_PORT = 8443, 8080, 9000
ADMIN = f"{PART}-admin"
"""Client of the realm "master" with all rights. No person can log in there: a client has no password form."""
SECRET = "secret"
"""Entry of a client's Secret."""
_TLS, _DATA = "/etc/keycloak-tls", "/opt/keycloak/data"


class KeycloakArgs(ServerArgs):
    """Inputs of Keycloak. `logins` needs the login that owns the database."""

    image: pulumi.Input[str]
    """Keycloak's image, by digest."""
    postgres_host: pulumi.Input[str]
    """PostgreSQL's own address, such as `PostgresCluster.direct`."""
    database: NotRequired[str]
    """Database that keeps users and sessions; the login of the same name owns it. Default "keycloak"."""
    url: str
    """URL that people's browsers use, such as "https://api.example.com". It is the beginning of every issuer."""
    gateways: NotRequired[Sequence[str]]
    """Values of app.kubernetes.io/name whose pods forward browsers' requests. Default: none."""
    callers: NotRequired[Sequence[str]]
    """Values of app.kubernetes.io/name whose pods may connect with TLS. Default: none."""
    provider_secrets: NotRequired[Mapping[str, str]]
    """Secrets with the client secrets at other identity providers, each in the entry "secret", by provider."""
    destinations: NotRequired[Sequence[str]]
    """URLs of other identity providers that Keycloak connects to. Default: none."""
    replicas: NotRequired[int]
    """Servers, which share sessions. Default 1."""
    resources: NotRequired[ResourcesArgs]
    """Of each server."""


class KeycloakInputs(Server):
    """What `KeycloakArgs` may hold."""

    image: Text = Field(description="Keycloak's image, by digest")
    postgres_host: Text = Field(description="PostgreSQL's own address")
    database: DnsLabel = Field(default=PART, description="Database that keeps users and sessions, and its login")
    replicas: int = same_as(KeycloakConfig, "replicas")
    resources: Resources = same_as(KeycloakConfig, "resources")
    url: str = Field(pattern=r"^https://[^/\s]+$", max_length=300, description="URL that people's browsers use")
    gateways: list[DnsLabel] = Field(
        default_factory=list[str], description="Values of app.kubernetes.io/name whose pods forward browsers' requests"
    )
    callers: list[DnsLabel] = Field(
        default_factory=list[str], description="Values of app.kubernetes.io/name whose pods may connect with TLS"
    )

    provider_secrets: dict[DnsLabel, DnsLabel] = Field(
        default_factory=dict[str, str], description="Secrets with the client secrets at other identity providers"
    )
    destinations: list[HttpsAddress] = Field(
        default_factory=list[str], description="URLs of other identity providers that Keycloak connects to"
    )


class KeycloakResources(NamedTuple):
    """Resources of Keycloak."""

    server: DataServer
    certificate: Certificate
    clients: Logins
    """Secret of the client that administers Keycloak."""


class Keycloak(PlatformComponent):
    """Servers with a common database, and the client that administers them."""

    url: pulumi.Output[str]
    """URL inside the cluster, known once every server is ready."""
    authority: pulumi.Output[str]
    """CA certificate (PEM) that callers inside the cluster trust."""
    admin: LoginArgs
    """The Secret of the client that administers Keycloak; its entry is "secret"."""
    server: DataServer

    def __init__(self, name: str, args: KeycloakArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(KeycloakInputs, self, name, args)
        super().__init__("security", name, {"replicas": inputs.replicas, "url": inputs.url}, opts)
        part, owner = inputs.kubernetes_name, inputs.database
        admin = f"{part}-admin"
        logins = Credentials(self, inputs, {owner: ["postgres"]}, passwords=[owner], given=[owner])
        # Keycloak reads this secret only when its database is empty, so no generation replaces it.
        clients = Logins(f"{name}-clients", {"namespace": inputs.namespace, "logins": {admin: [SECRET]}}, self.child())
        self.admin = clients.credentials[admin]
        certificate = Certificate(
            f"{name}-certificate",
            {"namespace": inputs.namespace, "secret_name": f"{part}-tls", "hosts": _hosts(part, inputs.namespace)},
            self.child(),
        )
        self.authority = certificate.authority
        self._outlets(inputs)
        file = pulumi.Output.all(
            inputs.postgres_host, logins.password(owner, "postgres"), clients.password(admin, SECRET)
        ).apply(lambda known: settings(inputs, *known))
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=part,
                title="Keycloak",
                folder=PART,
                processes=(_process(inputs),),
                callers=(*inputs.callers, task_name(part)),
                inner={"http": tuple(inputs.gateways)},
                replicas=inputs.replicas,
                metrics_port=MANAGEMENT_PORT,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=True,
                secret_files={"keycloak.conf": pulumi.Output.secret(file)},
                mounts={_TLS: certificate.secret_name},
                scratch=(_DATA,),
                versions=[*logins.versions(owner), certificate.authority.apply(fingerprint)],
            ),
            self.child(),
        )
        self.url = server.host.apply(lambda host: f"https://{host}:{HTTPS_PORT}")
        self.resources = KeycloakResources(server, certificate, clients)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": inputs.namespace,
                "name": part,
                "probe": "GET /health/ready answers 200, which includes the database",
            },
            url=self.url,
        )

    def _outlets(self, inputs: KeycloakInputs) -> None:
        """NetworkPolicies for connections to other identity providers. A policy names ports, not hosts."""
        found = [destination(url) for url in inputs.destinations]
        ports = sorted({port for _, outside in found for port in outside})
        specs = {"providers": outlet_spec(ports)} if ports else {}
        specs |= {f"providers-{place[0]}-{place[1]}": collector_spec(*place) for place, _ in found if place}
        for slug, spec in specs.items():
            part = inputs.kubernetes_name
            meta = {"name": f"{part}-{slug}", "namespace": inputs.namespace, "labels": labels(part, "data")}
            network_policy(f"{self.name}-{slug}", meta, part, spec, self.child())


def settings(inputs: KeycloakInputs, postgres: str, password: str, admin: str) -> str:
    """Content of keycloak.conf."""
    lines = {
        "db-url": f"jdbc:postgresql://{postgres}:{DIRECT_PORT}/{inputs.database}",
        "db-username": inputs.database,
        "db-password": password,
        "db-pool-initial-size": 1,
        "db-pool-min-size": 1,
        "db-pool-max-size": 10,
        "bootstrap-admin-client-id": ADMIN,
        "bootstrap-admin-client-secret": admin,
        # Issuers and browsers' addresses have this URL; addresses for callers inside the cluster are their own.
        "hostname": inputs.url,
        "hostname-backchannel-dynamic": "true",
        "https-certificate-file": f"{_TLS}/tls.crt",
        "https-certificate-key-file": f"{_TLS}/tls.key",
        "https-port": HTTPS_PORT,
        # For the gateway, which ends browsers' TLS; a NetworkPolicy admits nobody else.
        "http-enabled": "true",
        "http-port": HTTP_PORT,
        "proxy-headers": "xforwarded",
        "http-management-port": MANAGEMENT_PORT,
        "http-management-scheme": "http",
        "http-max-queued-requests": 200,
        "http-pool-max-threads": 50,
        # Servers find each other in the database, and encrypt what they exchange.
        "cache": "ispn" if inputs.replicas > 1 else "local",
        "log-console-output": "json",
        "log-level": "warn",
        **({"vault-dir": secret_files.FOLDER} if inputs.provider_secrets else {}),
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def _hosts(part: str, namespace: pulumi.Input[str]) -> list[pulumi.Input[str]]:
    service = pulumi.Output.concat(part, ".", namespace, ".svc")
    return [service, part, "localhost", "127.0.0.1"]


def _process(inputs: KeycloakInputs) -> Process:
    def health(kind: str) -> Any:
        return {"http_get": {"path": f"/health/{kind}", "port": "management"}}

    return Process(
        PART,
        inputs.image,
        inputs.resources,
        (f"/etc/{PART}-secret/keycloak.conf",),
        {"https": HTTPS_PORT, "http": HTTP_PORT, "management": MANAGEMENT_PORT},
        # Keycloak reads a file at each use, so a new secret needs no restart. Without one, only that provider fails.
        secrets={f"{REALM}_{name}": (secret, SECRET) for name, secret in inputs.provider_secrets.items()},
        waits=False,
        ready=health("ready"),
        started=health("started"),
        alive=health("live"),
        # The first start makes the tables: 90 s on a busy machine with two cores.
        start_s=600,
    )
