"""Programs of one's own that use the platform's Keycloak: where people log in, and those that act for people."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from components.config.base import Change, DnsLabel, Section, matching, setting
from components.config.problems import violation
from components.config.providers import Certificate, HttpsAddress, Name


class Protocol(StrEnum):
    """How an application logs people in."""

    OIDC = "oidc"
    SAML = "saml"


class Application(Section):
    """An application of yours where people log in with the platform's Keycloak."""

    name: DnsLabel = setting(Change.DISRUPTIVE, "Its name, and its client ID with oidc")
    protocol: Protocol = setting(Change.DISRUPTIVE, "oidc or saml", default=Protocol.OIDC, strict=False)
    redirects: tuple[HttpsAddress, ...] = setting(
        Change.SAFE,
        "URLs to which browsers return after a login; with saml: its assertion consumer services",
        min_length=1,
        max_length=20,
        strict=False,
    )
    secret: bool = setting(
        Change.DISRUPTIVE, "With oidc: whether it keeps a secret; pages and mobile programs do not", default=True
    )
    entity_id: Name | None = setting(Change.DISRUPTIVE, "With saml: its entity ID", default=None)
    certificate: Certificate | None = setting(
        Change.SAFE, "With saml: the certificate that it signs its requests with; without: none is signed", default=None
    )

    @model_validator(mode="after")
    def _of_the_protocol(self) -> Self:
        if self.protocol is Protocol.SAML and self.entity_id is None:
            raise violation("an entityId with protocol: saml", "copy it from the application's metadata")
        if self.protocol is Protocol.OIDC and (self.entity_id or self.certificate):
            raise violation("entityId and certificate with protocol: saml only", "remove them, or set protocol: saml")
        return self

    @property
    def client_id(self) -> str:
        """Name of its client at Keycloak."""
        return self.entity_id or self.name


Scope = Annotated[
    str,
    Field(max_length=100),
    matching("[a-z][a-z0-9_-]*", "lower-case letters, digits, hyphens and underscores", 'write it like "inference"'),
]


class Delegate(Section):
    """A machine that acts for people: it exchanges their access tokens for tokens of the platform (RFC 8693)."""

    machine: DnsLabel = setting(Change.SAFE, "The client, one of security.keycloak.machines")
    applications: tuple[DnsLabel, ...] = setting(
        Change.SAFE,
        "Applications with oidc whose people it may act for: their access tokens are then for the machine, too",
        min_length=1,
        max_length=50,
        strict=False,
    )
    scopes: tuple[Scope, ...] = setting(
        Change.SAFE,
        "Scopes of its keys, without manage: those of them that the person has",
        min_length=1,
        max_length=50,
        strict=False,
    )
