"""Other identity providers in the declared realm: how they are reached, what their people become, how logins go.

Names of fields are those of Keycloak's administration API (IdentityProviderRepresentation, and its mappers).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from components.config.providers import GrantedRole, IdentityProvider, OidcProvider, ProviderGrant, SamlProvider
from components.config.security import Keycloak

Json = dict[str, Any]
PREFIX = "cogniforge"
"""The names of the flows that the platform declares begin with this."""
NEW, EXISTING, AFTER, ONLY = (f"{PREFIX} {name}" for name in ("new account", "existing account", "after", "only"))
BUILT_IN = "browser"
"""Flow of logins in a browser that every realm has: the session, then a provider that is asked for, then a password."""


def flows(config: Keycloak) -> dict[str, Any]:
    """Steps of logins through providers, by the name of the flow; none without a provider.

    A step has an `authenticator` or is a `flow` with `steps`.
    """
    if not config.providers:
        return {}
    found: dict[str, Any] = {
        # A person who is not known gets an account. An address that is somebody's makes it a link, as below.
        NEW: [
            _step("idp-create-user-if-unique", "ALTERNATIVE"),
            {"flow": f"{NEW}: link", "requirement": "ALTERNATIVE", "steps": _link(f"{NEW}: link")},
        ],
        # The provider's word about an address makes nobody its owner: the account's password and second factor do.
        EXISTING: [_step("idp-detect-existing-broker-user"), *_link(EXISTING)],
        # A second factor holds for every way in. A flow needs a step that succeeds for those without one.
        AFTER: [_second_factor(AFTER), _step("allow-access-authenticator")],
    }
    for one in config.providers:
        if one.only:
            found[ONLY] = [
                _step("auth-cookie", "ALTERNATIVE"),
                {**_step("identity-provider-redirector", "ALTERNATIVE"), "config": {"defaultProvider": one.name}},
            ]
    return found


def browser_flow(config: Keycloak) -> str:
    """Name of the flow for logins in a browser."""
    return ONLY if any(one.only for one in config.providers) else BUILT_IN


def providers(config: Keycloak) -> dict[str, Json]:
    """The providers by name, each with its `content`, its `mappers`, and where Keycloak reads the rest (`metadata`)."""
    return {one.name: _provider(one) for one in config.providers}


def secrets(config: Keycloak) -> dict[str, str]:
    """Names of the Secrets with the platform's client secrets at providers, by provider."""
    return {one.name: one.oidc.secret_name for one in config.providers if one.oidc}


def _provider(one: IdentityProvider) -> Json:
    content: Json = {
        "displayName": one.title or one.name,
        "providerId": "oidc" if one.oidc else "saml",
        "enabled": True,
        "trustEmail": one.trust_email,
        "storeToken": False,
        "addReadTokenRoleOnCreate": False,
        "linkOnly": False,
        "hideOnLogin": not one.shown,
        "firstBrokerLoginFlowAlias": NEW if one.trust_email else EXISTING,
        "postBrokerLoginFlowAlias": AFTER,
    }
    # Names and addresses are taken once, at the first login. Otherwise a person could change the address of the
    # account by changing the one at the provider. Roles follow with each login: see `_mappers`.
    once = {"syncMode": "IMPORT"}
    if one.oidc:
        found = {
            "content": {**content, "config": {**once, **_oidc(one.name, one.oidc)}},
            "metadata": _metadata(one.oidc),
        }
    else:
        assert one.saml is not None, "the configuration has one of both"
        found = {"content": {**content, "config": {**once, **_saml(one.saml)}}}
        if one.saml.metadata_url:
            read = ["idpEntityId", "singleSignOnServiceUrl"]
            found["metadata"] = {"url": one.saml.metadata_url, "of": "metadataDescriptorUrl", "read": read}
    found["mappers"] = dict(_mappers(one))
    return found


def _oidc(name: str, oidc: OidcProvider) -> dict[str, str]:
    return {
        "issuer": oidc.issuer,
        "clientId": oidc.client_id,
        # A file of the pod: see `keycloak.settings`. The database has this reference only.
        "clientSecret": f"${{vault.{name}}}",
        "clientAuthMethod": "client_secret_basic",
        "defaultScope": " ".join(dict.fromkeys(("openid", *oidc.scopes))),
        "validateSignature": "true",
        "useJwksUrl": "true",
        "pkceEnabled": "true",
        "pkceMethod": "S256",
        "disableNonce": "false",
        "disableUserInfo": "true",
        "backchannelSupported": "false",
    }


def _metadata(oidc: OidcProvider) -> Json:
    return {
        "url": f"{oidc.issuer.rstrip('/')}/.well-known/openid-configuration",
        "of": "issuer",
        "issuer": oidc.issuer,
        "read": ["authorizationUrl", "tokenUrl", "jwksUrl"],
    }


def _saml(saml: SamlProvider) -> dict[str, str]:
    found = {
        "validateSignature": "true",
        "wantAssertionsSigned": "true",
        "wantAuthnRequestsSigned": "true",
        "signatureAlgorithm": "RSA_SHA256",
        "postBindingAuthnRequest": "true",
        "postBindingResponse": "true",
        "nameIDPolicyFormat": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        "principalType": "SUBJECT",
        "backchannelSupported": "false",
    }
    if saml.metadata_url:
        return {**found, "useMetadataDescriptorUrl": "true", "metadataDescriptorUrl": saml.metadata_url}
    return {
        **found,
        "useMetadataDescriptorUrl": "false",
        "idpEntityId": saml.entity_id or "",
        "singleSignOnServiceUrl": saml.sign_on_url or "",
        "signingCertificate": ",".join(saml.certificates),
    }


def _mappers(one: IdentityProvider) -> Iterator[tuple[str, Json]]:
    if one.saml:
        of_saml = {
            "email": one.saml.email_attribute,
            "firstName": one.saml.first_name_attribute,
            "lastName": one.saml.last_name_attribute,
        }
        for field, attribute in of_saml.items():
            config = {"syncMode": "INHERIT", "user.attribute": field, "attribute.name": attribute}
            yield field, {"identityProviderMapper": "saml-user-attribute-idp-mapper", "config": config}
    for number, grant in enumerate(one.grants):
        name, config = _grant(grant, saml=one.saml is not None)
        kind = "role" if grant.role is GrantedRole.OPERATOR else "group"
        made = f"{'saml' if one.saml else 'oidc'}-advanced-{kind}-idp-mapper"
        yield f"grant {number}: {name}", {"identityProviderMapper": made, "config": config}


def _grant(grant: ProviderGrant, *, saml: bool) -> tuple[str, Mapping[str, str]]:
    said = json.dumps([{"key": grant.claim, "value": grant.value}])
    # FORCE: what the provider does not say any more ends with the next login.
    matched = {
        "syncMode": "FORCE",
        **({"attributes": said} if saml else {"claims": said}),
        f"are.{'attribute' if saml else 'claim'}.values.regex": "false",
    }
    if grant.role is GrantedRole.OPERATOR:
        return "operator", {**matched, "role": GrantedRole.OPERATOR.value}
    group = f"/tenants/{grant.tenant}/{grant.role.value}"
    return group, {**matched, "group": group}


def _step(authenticator: str, requirement: str = "REQUIRED") -> Json:
    return {"authenticator": authenticator, "requirement": requirement}


def _link(flow: str) -> list[Json]:
    """A person shows that an account is theirs."""
    return [_step("idp-confirm-link"), _step("idp-username-password-form"), _second_factor(flow)]


def _second_factor(flow: str) -> Json:
    """A code of the person's device, if there is one."""
    steps = [_step("conditional-user-configured"), _step("auth-otp-form")]
    return {"flow": f"{flow}: second factor", "requirement": "CONDITIONAL", "steps": steps}
