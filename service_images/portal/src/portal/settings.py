"""Settings of the Portal."""

from __future__ import annotations

from pathlib import Path

from kit.settings import ServiceSettings
from pydantic import SecretStr

from portal.boards import Board
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
    jaeger_url: str = ""
    """URL of the query API of the platform's Jaeger; empty: it runs none."""
    log_store_url: str = ""
    """URL of the platform's VictoriaLogs; empty: it runs none."""
    log_store_login: Path | None = None
    """File with the value of the header Authorization for it."""
    boards: tuple[Board, ...] = ()
    """Dashboards of the environment's parts."""
    evidence: Evidence | None = None
    """What the deployment knows about its images and policies."""
