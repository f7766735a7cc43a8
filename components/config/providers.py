"""Identity providers outside the platform, whose people log in to Keycloak: `security.keycloak.providers`."""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from components.config.base import Change, DnsLabel, Section, matching, setting
from components.config.problems import violation


class TenantRole(StrEnum):
    """Role in a tenant. Each has the name of one of User's relations, and is a group of its tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    MEMBER = "member"


class GrantedRole(StrEnum):
    """Role that a provider's claim gives: one in a tenant, or the platform's own."""

    OWNER = TenantRole.OWNER.value
    ADMIN = TenantRole.ADMIN.value
    EDITOR = TenantRole.EDITOR.value
    VIEWER = TenantRole.VIEWER.value
    MEMBER = TenantRole.MEMBER.value
    OPERATOR = "operator"
    """Operates the platform; without a tenant."""


def _certificate(text: str) -> str:
    """a certificate, as PEM or as the Base64 text inside"""
    body = "".join(line.strip() for line in text.splitlines() if not line.startswith("-----"))
    try:
        content = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    # A certificate is an ASN.1 sequence of more than 127 bytes.
    if not content.startswith((b"\x30\x81", b"\x30\x82")):
        raise violation("a certificate, as PEM or as the Base64 text inside", "copy it from the provider's metadata")
    return body


HttpsAddress = Annotated[
    str,
    Field(max_length=2000),
    matching(
        r"https://[^\s/@?#*]+(/[^\s#*]*)?",
        "an https URL without a user and without a wildcard",
        'write it like "https://login.example.com/app"',
    ),
]
Certificate = Annotated[str, Field(max_length=20_000), AfterValidator(_certificate)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=200),
    matching(r"[^\x00-\x1f\x7f]+", "one line of text", "remove the line break"),
]


class ProviderGrant(Section):
    """A role for people of whom the provider says something. It ends with the first login without it."""

    claim: Name = setting(
        Change.SAFE, "Claim of the ID token (a dot separates nested names), or attribute of the assertion"
    )
    value: Name = setting(Change.SAFE, "Value that it must have; of a list: one of the list")
    role: GrantedRole = setting(
        Change.SAFE, "owner, admin, editor, viewer or member of the tenant; or operator, without a tenant", strict=False
    )
    tenant: DnsLabel | None = setting(Change.SAFE, "Tenant of the role, one of security.keycloak.tenants", default=None)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.role is GrantedRole.OPERATOR) == (self.tenant is not None):
            if self.tenant is None:
                raise violation(f"a tenant with the role {self.role.value}", "add tenant")
            raise violation("no tenant with the role operator, which is the whole platform's", "remove tenant")
        return self


class OidcProvider(Section):
    """A provider with OpenID Connect. Keycloak reads its metadata at the issuer."""

    issuer: HttpsAddress = setting(Change.SAFE, "Issuer URL of the provider, as in its tokens")
    client_id: Name = setting(Change.SAFE, "Client ID of the platform at the provider")
    secret_name: DnsLabel = setting(
        Change.SAFE,
        'Secret in the platform\'s namespace; its entry "secret" holds the client secret, without a newline',
    )
    scopes: tuple[
        Annotated[str, matching(r"[!#-\[\]-~]+", "one scope without spaces", 'write it like "profile"')], ...
    ] = setting(
        Change.SAFE,
        "Scopes to ask for, besides openid",
        default=("email", "profile"),
        max_length=20,
        strict=False,
    )


class SamlProvider(Section):
    """A provider with SAML 2.0: the URL of its metadata, or what the metadata would say."""

    metadata_url: HttpsAddress | None = setting(
        Change.SAFE, "Metadata of the provider. Keycloak reads it, and follows new certificates there", default=None
    )
    entity_id: Name | None = setting(Change.SAFE, "Entity ID of the provider", default=None)
    sign_on_url: HttpsAddress | None = setting(
        Change.SAFE, "Single sign-on URL of the provider, for the POST binding", default=None
    )
    certificates: tuple[Certificate, ...] = setting(
        Change.SAFE, "Certificates that the provider signs with", default=(), max_length=10, strict=False
    )
    email_attribute: Name = setting(Change.SAFE, "Attribute with the e-mail address", default="email")
    first_name_attribute: Name = setting(Change.SAFE, "Attribute with the first name", default="firstName")
    last_name_attribute: Name = setting(Change.SAFE, "Attribute with the last name", default="lastName")

    @model_validator(mode="after")
    def _either(self) -> Self:
        own = {"entityId": self.entity_id, "signOnUrl": self.sign_on_url, "certificates": self.certificates}
        if self.metadata_url and any(own.values()):
            written = ", ".join(name for name, value in own.items() if value)
            raise violation("metadataUrl alone, which says the rest", f"remove {written}, or metadataUrl")
        if not self.metadata_url and not all(own.values()):
            absent = ", ".join(name for name, value in own.items() if not value)
            raise violation("metadataUrl, or all of entityId, signOnUrl and certificates", f"add {absent}")
        return self


class IdentityProvider(Section):
    """A provider whose people log in to the platform."""

    name: DnsLabel = setting(Change.DISRUPTIVE, "Its name in addresses; people's links to it belong to the name")
    title: Annotated[str, Field(max_length=100)] = setting(
        Change.SAFE, "Its name on the login page; empty: name", default=""
    )
    oidc: OidcProvider | None = setting(Change.SAFE, "With OpenID Connect", default=None)
    saml: SamlProvider | None = setting(Change.SAFE, "With SAML 2.0", default=None)
    trust_email: bool = setting(
        Change.SAFE,
        "Whether it verifies people's e-mail addresses. New people then get an account; otherwise only those who have "
        "one come in, and confirm it once with its password",
        default=False,
    )
    shown: bool = setting(
        Change.SAFE,
        "Whether the login page offers it; otherwise kc_idp_hint=<name> in the login's URL does",
        default=True,
    )
    only: bool = setting(
        Change.SAFE, "Whether it is the only way in: no password is asked for, and none is accepted", default=False
    )
    grants: tuple[ProviderGrant, ...] = setting(
        Change.SAFE, "Roles by what it says about a person", default=(), max_length=200, strict=False
    )

    @model_validator(mode="after")
    def _one_protocol(self) -> Self:
        if (self.oidc is None) == (self.saml is None):
            raise violation("one of oidc and saml", "add one" if self.oidc is None else "remove one")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """URLs that Keycloak itself connects to. Browsers carry everything else."""
        if self.oidc:
            return (self.oidc.issuer,)
        return (self.saml.metadata_url,) if self.saml and self.saml.metadata_url else ()
