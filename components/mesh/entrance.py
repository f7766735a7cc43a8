"""The platform's gateway: its intent from the configuration, and the data plane that the configuration names."""

from __future__ import annotations

import json
from typing import TypedDict

import pulumi

from components.ai import bundled, router
from components.config.base import quantity
from components.config.cluster import ClusterKind
from components.config.gateway import GatewayEngine
from components.config.platform import PlatformConfig
from components.mesh import envoy, kong_gateway, limits
from components.mesh.gateway import Gateway
from components.mesh.routes import (
    OPERATORS_PREFIX,
    Backend,
    Cors,
    Document,
    GatewayIntent,
    Oidc,
    Operators,
    Rates,
    Route,
)

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
    "user": ("/v1/tenants", "/v1/self", "/v1/check", "/v1/list-objects", "/v1/login", "/v1/callback", "/v1/user/"),
    "prompt": ("/v1/prompts", "/v1/prompt/", "/api/public/v2/prompts"),
    "guardrails": ("/v1/moderations", "/v1/guard/"),
    "retriever": ("/v1/files", "/v1/vector_stores", "/v1/retriever/"),
    "billing": ("/v1/billing/",),
    "audit": ("/v1/audit/",),
}
"""Paths of the services beside the router."""

ROUTER_PREFIXES = ("/v1/", "/v1/models", OPERATORS_PREFIX, f"{OPERATORS_PREFIX}/routes")
"""Paths of the router: all that no other service has, and those under which its names hold slashes."""
LARGE_BODIES = ("/v1/", "/v1/files")
"""Paths that take as much as the configuration's maxBodySize: questions to models, with images, and uploads."""
TEXT_BODIES = ("/v1/moderations", "/v1/guard/", "/v1/prompts", "/api/public/v2/prompts")
"""Paths that take texts to look at or to keep; all others take what describes something."""
ENCODED_NAMES = ("/v1/models", "/v1/admin/routes", "/v1/prompts", "/api/public/v2/prompts")
"""Below these, names may hold slashes, which clients send as %2F."""


def _about(documents: tuple[Document, ...]) -> str:
    return json.dumps(
        {
            "name": "CogniForge Platform",
            "description": "An AI platform with the APIs of OpenAI and Anthropic. Send an API key with each request.",
            "base_url": "/v1",
            "documents": {document.backend.name: document.path for document in documents},
        }
    )


def _body(prefix: str, largest: int) -> int:
    """Bytes that a body under the prefix may have."""
    if prefix in LARGE_BODIES:
        return largest
    return min(largest, limits.most("GATEWAY_TEXT_BODY" if prefix in TEXT_BODIES else "GATEWAY_SMALL_BODY"))


def intent(config: PlatformConfig) -> GatewayIntent:
    """What the gateway should do."""
    settings, namespace = config.gateway, config.cluster.namespace
    the_router = Backend("router", f"router.{namespace}", router.PORT)
    others = {name: Backend(name, f"{name}.{namespace}", bundled.PORT) for name in config.services.bundled}
    prefixes = {
        **dict.fromkeys(ROUTER_PREFIXES, the_router),
        **{prefix: backend for name, backend in others.items() for prefix in PREFIXES.get(name, ())},
    }
    largest = int(quantity(settings.max_body_size).to_integral_value(rounding="ROUND_FLOOR"))
    timeouts = settings.request_timeout_seconds, settings.idle_timeout_seconds
    documents = tuple(
        Document(f"/openapi/{backend.name}.json", backend, "/openapi.json")
        for backend in dict.fromkeys(prefixes.values())
    )
    public = settings.operators.public
    if public is None:
        public = config.cluster.kind is ClusterKind.LOCAL
    oidc, cors, rate = settings.oidc, settings.cors, settings.rate_limit
    return GatewayIntent(
        hosts=(*settings.hosts, *inside_hosts(config)),
        port=settings.port,
        routes=(
            *(
                Route(prefix, backend, *timeouts, _body(prefix, largest), encoded_slash=prefix in ENCODED_NAMES)
                for prefix, backend in prefixes.items()
            ),
        ),
        rates=Rates(
            (rate.requests_per_second, rate.burst),
            (rate.address_requests_per_second, 2 * rate.address_requests_per_second),
        ),
        oidc=Oidc(oidc.issuer, oidc.audience) if oidc else None,
        services_ask=config.services.user is not None,
        cors=Cors(cors.allowed_origins, cors.max_age_seconds) if cors else None,
        about=_about(documents),
        documents=documents,
        operators=Operators(public, settings.operators.addresses),
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
