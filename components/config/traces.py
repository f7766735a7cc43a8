"""The server of traces in the observability section of the configuration."""

from __future__ import annotations

from components.config.base import Change, Resources, Section, setting
from components.config.data import Storage

SERVER = "jaeger"
"""Name of the part and of its Service."""
OTLP_PORT = 4318
"""OTLP over HTTP."""
QUERY_PORT = 16686


class Traces(Section):
    """Jaeger, which the platform runs itself."""

    storage: Storage = setting(Change.SAFE, "Volume for spans", default="5Gi")
    keep_days: int = setting(Change.SAFE, "Days that spans are kept", default=3, ge=1, le=90)
    resources: Resources = setting(Change.DISRUPTIVE, "Of the server", default=Resources(cpu="50m", memory="384Mi"))

    @property
    def endpoint(self) -> str:
        """OTLP endpoint for pods in the platform's namespace."""
        return f"http://{SERVER}:{OTLP_PORT}"
