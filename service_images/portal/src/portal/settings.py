"""Settings of the Portal."""

from __future__ import annotations

from kit.settings import ServiceSettings
from pydantic import SecretStr

from portal.evidence import Evidence
from portal.topology import Part


class PortalSettings(ServiceSettings):
    """Settings of the Portal."""

    name: str = "portal"
    gateway_url: str = "https://gateway:8443"
    """URL of the gateway inside the cluster."""
    gateway_authority: SecretStr = SecretStr("")
    """CA certificate (PEM) of that URL; empty: public CAs."""
    public_url: str = "https://localhost:8443"
    """URL of the gateway for people's programs."""
    session_secret: SecretStr = SecretStr("")
    """Secret from which the key of session cookies is derived."""
    logins: bool = False
    """Whether people log in with an identity provider. API keys work in any case."""
    parts: tuple[Part, ...] = ()
    """The enabled services."""
    prometheus_url: str = ""
    """URL of the platform's Prometheus; empty: it runs none."""
    evidence: Evidence | None = None
    """What the deployment knows about its images and policies."""
