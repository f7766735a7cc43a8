"""Creates the gateway: derives its intent from the configuration, and uses the configured proxy."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypedDict

import pulumi

from components.config import grafana, traces
from components.config.base import quantity
from components.config.cluster import ClusterKind
from components.config.gateway import GatewayEngine
from components.config.mesh import MeshMode
from components.config.platform import PlatformConfig
from components.config.security import REALM
from components.mesh import envoy, kong_gateway, limits
from components.mesh.gateway import Gateway
from components.mesh.gateway_inputs import intent_args
from components.mesh.routes import (
    OPERATORS_DOCUMENTS,
    Authorizer,
    Backend,
    Cors,
    Document,
    GatewayIntent,
    Oidc,
    OperatorOperation,
    Operators,
    Rates,
    Route,
    Spans,
)
from components.pods import customized
from components.security import keycloak, policy_data
from components.services.record import Body, Prefix
from components.services.registry import FRONT

PROXY_PORT = envoy.LISTEN_PORT
"""TCP port of both proxies inside their pods."""


LOGIN_PATHS = (f"/realms/{REALM}/", "/resources/")
"""Paths of Keycloak for browsers: the platform's realm, and files of its pages. The realm that administers Keycloak and
the administration API are reached inside the cluster only."""


class EntranceArgs(TypedDict):
    """Inputs of the gateway."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    """Image of Envoy."""
    key: pulumi.Input[str]
    """API key of the default client."""
    certificate_secret: pulumi.Input[str]
    """Name of a Secret of type kubernetes.io/tls."""
    certificate_version: pulumi.Input[str]
    """A value that changes with the certificate."""


def inside_hosts(config: PlatformConfig) -> list[str]:
    """Host names of the gateway for callers inside the cluster, and on loopback for the local load balancer."""
    service = "gateway-proxy" if config.gateway.engine is GatewayEngine.KONG else "gateway"
    inside = f"{service}.{config.cluster.namespace}"
    return [inside, f"{inside}.svc.cluster.local", "127.0.0.1"]


def _about(documents: tuple[Document, ...], public: bool) -> str:
    """The answer to `GET /`, which needs no key; operators' documents are named only where everybody reaches them."""
    operators = [document.path for document in documents if document.operators and public]
    return json.dumps(
        {
            "name": "CogniForge Platform",
            "version": "v1",
            "description": "An AI platform with the APIs of OpenAI and Anthropic. Send an API key with each request.",
            "base_url": "/v1",
            "keys": "The platform's operators make API keys, for example with `forge key create`.",
            "documents": {one.backend.name: one.path for one in documents if not one.operators},
            **({"operators": operators} if operators else {}),
        }
    )


def _body(size: Body, largest: int) -> int:
    """Largest body of a size class, in bytes."""
    if size is Body.LARGE:
        return largest
    return min(largest, limits.most("GATEWAY_TEXT_BODY" if size is Body.TEXT else "GATEWAY_SMALL_BODY"))


def intent(config: PlatformConfig) -> GatewayIntent:
    """Derive the gateway's intent from the configuration."""
    found, opa = _without_authorizer(config), config.security.opa
    if opa is None:
        return found
    operators = (one for one in policy_data.operations(config, found) if one.operators)
    authorizer = Authorizer(
        f"{policy_data.PART}.{config.cluster.namespace}",
        policy_data.GRPC_PORT,
        opa.closed,
        any(rules.models or rules.regions for rules in opa.tenants.values()),
        tuple(OperatorOperation(one.method, one.path) for one in operators),
        opa.decision_milliseconds,
    )
    return dataclasses.replace(found, authorizer=authorizer)


def _without_authorizer(config: PlatformConfig) -> GatewayIntent:
    settings, namespace = config.gateway, config.cluster.namespace
    prefixes = {
        prefix.path: (prefix, Backend(record.name, f"{record.name}.{namespace}", record.port))
        for record in config.around.records.values()
        for prefix in record.prefixes
    }
    if config.security.keycloak:
        backend = Backend(keycloak.PART, f"{keycloak.PART}.{namespace}", keycloak.HTTP_PORT)
        prefixes |= {path: (Prefix(path), backend) for path in LOGIN_PATHS}
    if config.observability.grafana:
        backend = Backend(grafana.PART, f"{grafana.PART}.{namespace}", grafana.PORT)
        prefixes[grafana.PATH] = Prefix(grafana.PATH), backend
    largest = int(quantity(settings.max_body_size).to_integral_value(rounding="ROUND_FLOOR"))
    timeouts = settings.request_timeout_seconds, settings.idle_timeout_seconds
    backends = {backend.name: backend for _, backend in prefixes.values()}
    records = config.around.records
    documents = (
        *(
            Document(f"/openapi/{name}.json", backend, path)
            for name, backend in backends.items()
            if name in records and (path := records[name].document)
        ),
        *(Document(path, backends[FRONT.name], there, True) for path, there in OPERATORS_DOCUMENTS.items()),
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
                Route(path, backend, *timeouts, _body(prefix.body, largest), encoded_slash=prefix.encoded_names)
                for path, (prefix, backend) in prefixes.items()
            ),
        ),
        rates=Rates(
            (rate.requests_per_second, rate.burst),
            (rate.address_requests_per_second, 2 * rate.address_requests_per_second),
        ),
        oidc=Oidc(oidc.issuer, oidc.audience) if oidc else None,
        services_ask=bool(config.around.keeper),
        cors=Cors(cors.allowed_origins, cors.max_age_seconds) if cors else None,
        about=_about(documents, public),
        documents=documents,
        operators=Operators(public, settings.operators.addresses),
        spans=_spans(config),
        names_backends=config.mesh.mode is MeshMode.SIDECAR and settings.engine is GatewayEngine.ENVOY,
    )


def _spans(config: PlatformConfig) -> Spans | None:
    """Who receives the gateway's spans, if it sends any."""
    if not config.gateway_traces:
        return None
    host = f"{traces.GATEWAY}.{config.cluster.namespace}"
    return Spans(host, traces.OTLP_GRPC_PORT, config.observability.trace_sample_ratio)


def make(
    name: str, config: PlatformConfig, args: EntranceArgs, opts: pulumi.ResourceOptions
) -> Gateway | kong_gateway.KongGateway:
    """Create the configured proxy."""
    settings = config.gateway
    common: Any = {
        **intent_args(intent(config)),
        **customized(settings.pod, "gateway.pod"),
        "namespace": args["namespace"],
        "keys": {"default": args["key"]},
        "certificate_secret": args["certificate_secret"],
        "replicas": settings.replicas,
        **settings.resources.model_dump(),
    }
    if settings.engine is GatewayEngine.KONG:
        return kong_gateway.KongGateway(name, common, opts)
    common |= {"image": args["image"], "certificate_version": args["certificate_version"]}
    return Gateway(name, common, opts)
