"""The platform's gateway: its intent from the configuration, and the data plane that the configuration names."""

from __future__ import annotations

from typing import TypedDict

import pulumi

from components.ai import bundled, router
from components.config import PlatformConfig
from components.config_base import quantity
from components.config_gateway import GatewayEngine
from components.mesh import envoy, kong_gateway
from components.mesh.gateway import Gateway
from components.mesh.routes import Backend, ExternalModel, GatewayIntent, Oidc, Route

PROXY_PORT = envoy.LISTEN_PORT
"""Where both data planes listen in their pods."""


class EntranceArgs(TypedDict):
    """Inputs of the gateway."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    """Envoy's image."""
    key: pulumi.Input[str]
    """The default client's API key."""
    certificate_secret: pulumi.Input[str]
    """A kubernetes.io/tls Secret."""
    certificate_version: pulumi.Input[str]
    """Changes when the certificate does."""


def inside_hosts(config: PlatformConfig) -> list[str]:
    """Names of the gateway for callers in the cluster, and for the local load balancer on loopback."""
    service = "gateway-proxy" if config.gateway.engine is GatewayEngine.KONG else "gateway"
    inside = f"{service}.{config.cluster.namespace}"
    return [inside, f"{inside}.svc.cluster.local", "127.0.0.1"]


PREFIXES: dict[str, tuple[str, ...]] = {
    "user": ("/v1/tenants", "/v1/self", "/v1/check", "/v1/list-objects", "/v1/login", "/v1/callback"),
    "prompt": ("/v1/prompts", "/api/public/v2/prompts"),
    "guardrails": ("/v1/moderations", "/v1/guard/"),
    "retriever": ("/v1/files", "/v1/vector_stores"),
    "billing": ("/v1/billing/",),
    "audit": ("/v1/audit/",),
}
"""Paths of the services beside the router."""


def intent(config: PlatformConfig) -> GatewayIntent:
    """What the gateway should do."""
    settings, namespace = config.gateway, config.cluster.namespace
    backend = Backend("router", f"router.{namespace}", router.PORT)
    timeouts = settings.request_timeout_seconds, settings.idle_timeout_seconds
    external = [ExternalModel(m.name, m.provider.value, m.model, m.secret_name) for m in settings.external_models]
    oidc = settings.oidc
    return GatewayIntent(
        hosts=(*settings.hosts, *inside_hosts(config)),
        port=settings.port,
        routes=(
            Route("/v1/", backend, *timeouts),
            *(
                Route(prefix, Backend(name, f"{name}.{namespace}", bundled.PORT), *timeouts)
                for name in config.services.bundled
                for prefix in PREFIXES.get(name, ())
            ),
            *(Route(f"/{model.name}/", backend, *timeouts, model) for model in external),
        ),
        max_body_bytes=int(quantity(settings.max_body_size).to_integral_value(rounding="ROUND_FLOOR")),
        requests_per_second=settings.rate_limit.requests_per_second,
        burst=settings.rate_limit.burst,
        oidc=Oidc(oidc.issuer, oidc.audience) if oidc else None,
        services_ask=config.services.user is not None,
    )


def make(
    name: str, config: PlatformConfig, args: EntranceArgs, opts: pulumi.ResourceOptions
) -> Gateway | kong_gateway.KongGateway:
    """The data plane that the configuration names."""
    settings = config.gateway
    if settings.engine is GatewayEngine.KONG:
        return kong_gateway.KongGateway(
            name,
            intent(config),
            {
                "namespace": args["namespace"],
                "keys": {"default": args["key"]},
                "certificate_secret": args["certificate_secret"],
                "replicas": settings.replicas,
                "cpu": settings.resources.cpu,
                "memory": settings.resources.memory,
            },
            opts,
        )
    return Gateway(
        name,
        intent(config),
        {
            "namespace": args["namespace"],
            "image": args["image"],
            "keys": {"default": args["key"]},
            "certificate_secret": args["certificate_secret"],
            "certificate_version": args["certificate_version"],
            "replicas": settings.replicas,
            "cpu": settings.resources.cpu,
            "memory": settings.resources.memory,
            "local_port_offset": 0,
        },
        opts,
    )
