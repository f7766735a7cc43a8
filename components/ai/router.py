"""The AI Router: its intent, and the route table that follows from the configured models."""

from __future__ import annotations

import json
from collections.abc import Mapping

from components.ai.service import ServiceIntent
from components.config import Model, PlatformConfig

PORT = 8080


def intent(config: PlatformConfig) -> ServiceIntent:
    """The router as configured."""
    router, observability = config.services.router, config.observability
    return ServiceIntent(
        name="router",
        port=PORT,
        callers=("gateway",),
        replicas=router.replicas,
        resources=router.resources,
        environment={
            "SERVICE_LOG_LEVEL": observability.log_level.value,
            "SERVICE_OTLP_ENDPOINT": observability.otlp_endpoint,
            "SERVICE_TRACE_SAMPLE_RATIO": str(observability.trace_sample_ratio),
            "SERVICE_PORT": str(PORT),
        },
    )


def route_table(models: Mapping[str, tuple[Model, str]]) -> str:
    """The JSON that the router reads; `models` maps a name to the model and its server's base URL."""
    routes = [
        {
            "model": name,
            "upstream": url,
            "timeout_seconds": model.timeout_seconds,
            "owned_by": model.engine.value,
        }
        for name, (model, url) in sorted(models.items())
    ]
    return json.dumps({"routes": routes}, indent=2)
