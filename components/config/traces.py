"""The servers of traces in the observability section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from components.config.base import Change, ObjectName, Resources, Section, matching, setting
from components.config.data import Storage
from components.config.web import SERVER as WEB_SERVER

SERVER = "jaeger"
"""Name of the part that keeps spans, and of its Service."""
GATEWAY = "telemetry-gateway"
"""Name of the part that receives spans, and of its Service."""
OTLP_PORT, OTLP_GRPC_PORT = 4318, 4317
"""OTLP over HTTP and over gRPC."""
QUERY_PORT = 16686


class Langfuse(Section):
    """A Langfuse project that receives the kept traces, too."""

    url: Annotated[
        str,
        Field(max_length=2000),
        matching(
            rf"{WEB_SERVER}(/[A-Za-z0-9._~-]+)*",
            "an http(s) URL without a user, a query, or a slash at its end",
            'write "https://cloud.langfuse.com/api/public/otel"',
        ),
    ] = setting(Change.SAFE, "Base URL of OTLP requests")
    secret_name: ObjectName = setting(
        Change.SAFE,
        'Secret in the namespace of the platform whose entry "authorization" is the value of the header Authorization',
    )


class Traces(Section):
    """The OpenTelemetry gateway and Jaeger, which the platform runs itself."""

    storage: Storage = setting(Change.SAFE, "Volume for spans", default="5Gi")
    keep_days: int = setting(Change.SAFE, "Days that spans are kept", default=3, ge=1, le=90)
    keep_one_of: int = setting(
        Change.SAFE,
        "Of this number of requests, one is kept, besides all that failed, were blocked or slow; 1 keeps all",
        default=100,
        ge=1,
        le=1_000_000,
    )
    resources: Resources = setting(Change.DISRUPTIVE, "Of Jaeger", default=Resources(cpu="50m", memory="384Mi"))
    gateway: Resources = setting(
        Change.DISRUPTIVE, "Of the OpenTelemetry gateway", default=Resources(cpu="50m", memory="256Mi")
    )
    queue: Storage = setting(Change.SAFE, "Volume of the gateway for spans that wait for their receiver", default="1Gi")
    langfuse: Langfuse | None = setting(Change.SAFE, "Send the kept traces to Langfuse, too", default=None)

    @property
    def endpoint(self) -> str:
        """OTLP endpoint for pods in the platform's namespace."""
        return f"http://{GATEWAY}:{OTLP_PORT}"

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that the parts run."""
        return ("collector", SERVER)
