"""Another identity provider: a second realm of the same Keycloak, with OpenID Connect and SAML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from components.config.security import REALM, Keycloak
from components.security import realm
from service_images.keycloak_browser import PASSWORD
from service_images.keycloak_server import Server

UPSTREAM = "upstream"
OIDC, SAML = "corporate", "partner"
"""Names of the provider at the platform, by protocol."""
SECRET = "an-upstream-secret"
_HERE = "https://upstream.example.com"


class Upstream:
    """The realm, its people, and its clients."""

    def __init__(self, server: Server) -> None:
        self.server, self.base = server, f"/{UPSTREAM}"
        # Anybody may write any address there, if it is not verified.
        content = {"realm": UPSTREAM, "enabled": True, "loginWithEmailAllowed": False, "duplicateEmailsAllowed": True}
        server.admin("POST", "", content, (201, 409))
        for group in ("editors", "operators"):
            server.admin("POST", f"{self.base}/groups", {"name": group}, (201, 409))
        (server.vault / f"{REALM}_{OIDC}").write_text(SECRET)
        server.admin("POST", f"{self.base}/clients", self._oidc(), (201, 409))

    def person(self, name: str, *groups: str, verified: bool = True, email: str = "") -> None:
        """Make a person, or bring one back to this."""
        for one in self.server.admin("GET", f"{self.base}/users?username={name}&exact=true"):
            self.server.admin("DELETE", f"{self.base}/users/{one['id']}")
        body = {
            "username": name,
            "email": email or f"{name}@example.com",
            "emailVerified": verified,
            "enabled": True,
            "firstName": name,
            "lastName": "Example",
            "groups": [f"/{group}" for group in groups],
            "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
        }
        self.server.admin("POST", f"{self.base}/users", body)

    def found(self, name: str) -> str:
        """ID of a person."""
        return self.server.admin("GET", f"{self.base}/users?username={name}&exact=true")[0]["id"]

    def leave(self, name: str, group: str) -> None:
        """Take a person out of a group."""
        made = self.server.admin("GET", f"{self.base}/group-by-path/{group}")
        self.server.admin("DELETE", f"{self.base}/users/{self.found(name)}/groups/{made['id']}")

    def enable(self, value: bool) -> None:
        """Switch the whole provider off, or on again."""
        self.server.admin("PUT", self.base, {"realm": UPSTREAM, "enabled": value})

    def takes_saml(self) -> None:
        """Let the platform in with SAML, as its own metadata describe it."""
        endpoint = f"{self.server.url}/realms/{REALM}/broker/{SAML}/endpoint"
        described = self.server.http.get(f"{endpoint}/descriptor").text
        certificate = re.search(r"<[^>]*X509Certificate>([^<]+)<", described)
        assert certificate is not None, described
        self.server.admin("POST", f"{self.base}/clients", self._saml(endpoint, certificate[1]), (201, 409))

    def serves(self, entity: str, consumer: str) -> str:
        """Let another service in with SAML, which receives assertions at `consumer`. Returns where a login begins."""
        content = {
            "clientId": entity,
            "protocol": "saml",
            "redirectUris": [consumer],
            "attributes": {
                "saml.assertion.signature": "true",
                "saml.server.signature": "true",
                "saml.client.signature": "false",
                "saml.force.post.binding": "true",
                "saml_assertion_consumer_url_post": consumer,
                "saml_idp_initiated_sso_url_name": "elsewhere",
            },
        }
        self.server.admin("POST", f"{self.base}/clients", content, (201, 409))
        return f"{self.server.url}/realms/{UPSTREAM}/protocol/saml/clients/elsewhere"

    def _oidc(self) -> dict[str, Any]:
        config = {"claim.name": "groups", "full.path": "false", "id.token.claim": "true", "access.token.claim": "true"}
        mapper = {"name": "groups", "protocol": "openid-connect", "protocolMapper": "oidc-group-membership-mapper"}
        return {
            "clientId": "platform",
            "secret": SECRET,
            "redirectUris": [f"{self.server.url}/realms/{REALM}/broker/{OIDC}/endpoint"],
            "protocolMappers": [{**mapper, "config": config}],
        }

    def _saml(self, endpoint: str, certificate: str) -> dict[str, Any]:
        attributes = [
            {
                "name": name,
                "protocol": "saml",
                "protocolMapper": "saml-user-property-mapper",
                "config": {"user.attribute": name, "attribute.name": name, "attribute.nameformat": "Basic"},
            }
            for name in ("email", "firstName", "lastName")
        ]
        groups = {"attribute.name": "groups", "single": "false", "full.path": "false", "attribute.nameformat": "Basic"}
        return {
            "clientId": f"{self.server.url}/realms/{REALM}",
            "protocol": "saml",
            "redirectUris": [endpoint],
            "attributes": {
                "saml.assertion.signature": "true",
                "saml.server.signature": "true",
                "saml.client.signature": "true",
                "saml.signing.certificate": certificate,
                "saml.force.post.binding": "true",
                "saml_assertion_consumer_url_post": endpoint,
            },
            "protocolMappers": [
                *attributes,
                {
                    "name": "groups",
                    "protocol": "saml",
                    "protocolMapper": "saml-group-membership-mapper",
                    "config": groups,
                },
            ],
        }


GRANTS = [
    {"claim": "groups", "value": "editors", "role": "editor", "tenant": "acme"},
    {"claim": "groups", "value": "operators", "role": "operator"},
]
OVER_OIDC = {"issuer": f"{_HERE}/realms/{UPSTREAM}", "clientId": "platform", "secretName": "corporate"}
OVER_SAML = {"metadataUrl": f"{_HERE}/realms/{UPSTREAM}/protocol/saml/descriptor"}


def declared(server: Server, url: str, places: Mapping[str, str] | None = None, **config: Any) -> dict[str, Any]:
    """The declaration of the realm of a platform at this URL, with providers on loopback instead of at `places`."""
    text = json.dumps(realm.declared(Keycloak.model_validate(config), url).content)
    for name, on_loopback in {_HERE: server.url, **(places or {})}.items():
        text = text.replace(name, on_loopback)
    return json.loads(text)
