"""Renders a gateway intent as Kong's plugins and declarative configuration. Pure: no Pulumi, no cluster."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from components.mesh.routes import ExternalModel, GatewayIntent, Route

Json = dict[str, Any]
FORMAT = "3.0"
"""Version of Kong's declarative format."""
CLIENT_HEADER = "x-client-id"
_MILLISECONDS = 1000


@dataclass(frozen=True)
class Plugin:
    """One plugin with its configuration."""

    plugin: str
    config: Json

    @property
    def name(self) -> str:
        """Its name in Kubernetes."""
        return f"gateway-{self.plugin}"


def plugins(intent: GatewayIntent) -> tuple[Plugin, ...]:
    """What every route gets, in no order: Kong runs plugins by their own priorities."""
    return (
        *([] if intent.services_ask else [_authentication(intent)]),
        Plugin("correlation-id", {"header_name": "x-request-id", "generator": "uuid", "echo_downstream": True}),
        # Kong counts in fixed windows: the minute holds the sustained rate, the second holds the burst.
        Plugin(
            "rate-limiting",
            {
                "second": intent.burst,
                "minute": intent.requests_per_second * 60,
                "limit_by": "service",
                "policy": "local",
                "fault_tolerant": True,
            },
        ),
        Plugin(
            "request-size-limiting",
            {"allowed_payload_size": intent.max_body_bytes, "size_unit": "bytes", "require_content_length": False},
        ),
        # Who calls is what Kong found, never what the caller says.
        Plugin(
            "request-transformer",
            {
                "remove": {"headers": [CLIENT_HEADER]},
                **(
                    {}
                    if intent.services_ask
                    else {"add": {"headers": [f'{CLIENT_HEADER}:$(headers["x-consumer-username"])']}}
                ),
            },
        ),
    )


def _authentication(intent: GatewayIntent) -> Plugin:
    if intent.oidc is None:
        return Plugin("key-auth", {"key_names": ["authorization", "x-api-key"], "hide_credentials": True})
    # Of Kong's enterprise edition; the free jwt plugin cannot follow a provider's keys.
    return Plugin(
        "openid-connect",
        {
            "issuer": intent.oidc.issuer,
            "auth_methods": ["bearer"],
            "audience_required": [intent.oidc.audience],
            "consumer_optional": True,
            "upstream_headers_claims": ["sub"],
            "upstream_headers_names": [CLIENT_HEADER],
        },
    )


def credentials(key: str) -> tuple[str, str]:
    """What a client may send for its key: as a bearer token, as OpenAI's clients do, or as it is."""
    return f"Bearer {key}", key


def ai_proxy(external: ExternalModel) -> Json:
    """Configuration of ai-proxy, without the credential."""
    return {
        "route_type": "llm/v1/chat",
        "auth": {"header_name": "Authorization"},
        "model": {"provider": external.provider, "name": external.model},
        "logging": {"log_statistics": True, "log_payloads": False},
    }


def host_names(intent: GatewayIntent) -> list[str]:
    """The intent's hosts without addresses, which Gateway API does not take."""
    return [host for host in intent.hosts if not _is_address(host)]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def route_name(index: int, route: Route) -> str:
    """A route's name: of its backend, or of the model that is asked instead."""
    return route.external.name if route.external else f"{route.backend.name}-{index}"


def declarative(intent: GatewayIntent, keys: dict[str, str]) -> Json:
    """The whole configuration in Kong's declarative format, as `deck gateway sync` takes it."""
    common = [{"name": p.plugin, "config": p.config} for p in plugins(intent)]
    services = [_service(index, route, intent, common) for index, route in enumerate(intent.routes)]
    consumers = [
        {"username": client, "keyauth_credentials": [{"key": value} for value in credentials(key)]}
        for client, key in sorted(keys.items())
    ]
    everywhere = [{"name": "prometheus", "config": {"status_code_metrics": True, "latency_metrics": True}}]
    found: Json = {"_format_version": FORMAT, "services": services, "plugins": everywhere}
    return found if intent.oidc or intent.services_ask else {**found, "consumers": consumers}


def _service(index: int, route: Route, intent: GatewayIntent, common: list[Json]) -> Json:
    name = route_name(index, route)
    extra = [{"name": "ai-proxy", "config": ai_proxy(route.external)}] if route.external else []
    return {
        "name": name,
        "host": route.backend.host,
        "port": route.backend.port,
        "protocol": "http",
        "connect_timeout": 5 * _MILLISECONDS,
        # Between two reads, so it bounds a stream that stalls; Kong has no limit for a whole answer.
        "read_timeout": route.idle_timeout_seconds * _MILLISECONDS,
        "write_timeout": route.idle_timeout_seconds * _MILLISECONDS,
        "retries": 3,
        "routes": [
            {
                "name": name,
                "hosts": host_names(intent),
                "paths": [route.prefix],
                "protocols": ["https"],
                "strip_path": False,
                "preserve_host": True,
            }
        ],
        "plugins": [*common, *extra],
    }
