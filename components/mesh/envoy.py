"""Renders a gateway intent as Envoy's bootstrap configuration. Pure: no Pulumi, no cluster."""

from __future__ import annotations

from typing import Any

from components.mesh.routes import Backend, GatewayIntent, Route

LISTEN_PORT = 8443
ADMIN_PORT = 9901
STATUS_PORT = 9902
TLS_FOLDER = "/etc/gateway-tls"
_TYPES = "type.googleapis.com/envoy"
Json = dict[str, Any]


def _typed(kind: str, **fields: Any) -> Json:
    return {"@type": f"{_TYPES}.{kind}", **fields}


def _filter(name: str, kind: str, **fields: Any) -> Json:
    return {
        "name": f"envoy.filters.http.{name}",
        "typed_config": _typed(f"extensions.filters.http.{kind}", **fields),
    }


def _api_key(keys: dict[str, str]) -> Json:
    """Callers show their key as a bearer token, as OpenAI's clients do, or as x-api-key."""
    credentials = [{"client": client, "key": key} for client, key in sorted(keys.items())]
    return _filter(
        "api_key_auth",
        "api_key_auth.v3.ApiKeyAuth",
        credentials=credentials,
        key_sources=[{"header": "authorization"}, {"header": "x-api-key"}],
        # The services behind the gateway never see the key.
        forwarding={"header": "x-client-id", "hide_credentials": True},
    )


def _rate_limit(intent: GatewayIntent) -> Json:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    # Tokens come ten times a second, so that the rate is smooth.
    per_fill = max(1, intent.requests_per_second // 10)
    interval_s = per_fill / intent.requests_per_second
    return _filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="gateway",
        token_bucket={
            "max_tokens": intent.burst,
            "tokens_per_fill": per_fill,
            "fill_interval": f"{interval_s:.6f}s",
        },
        filter_enabled=always,
        filter_enforced=always,
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}}],
    )


def _route(route: Route) -> Json:
    return {
        "match": {"prefix": route.prefix},
        "route": {
            "cluster": route.backend.name,
            "timeout": f"{route.timeout_seconds}s",
            "idle_timeout": f"{route.idle_timeout_seconds}s",
            # Only what surely did not reach the service is sent again.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 3,
            },
        },
    }


def _cluster(backend: Backend) -> Json:
    endpoint = {"address": {"socket_address": {"address": backend.host, "port_value": backend.port}}}
    return {
        "name": backend.name,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "dns_lookup_family": "V4_ONLY",
        "load_assignment": {
            "cluster_name": backend.name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        # Long-lived connections would stay on one pod: a ClusterIP balances connections, not requests.
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"max_requests_per_connection": 1000, "idle_timeout": "30s"},
            )
        },
        "circuit_breakers": {
            "thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]
        },
    }


_ERRORS: Json = {
    # Envoy's own answers in the error envelope that OpenAI's clients understand.
    "body_format": {
        "json_format": {
            "error": {
                "message": "%LOCAL_REPLY_BODY%",
                "type": "gateway_error",
                "param": None,
                "code": "%RESPONSE_CODE_DETAILS%",
            }
        }
    }
}


def _access_log() -> Json:
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "client": "%REQ(X-CLIENT-ID)%",
        "traceparent": "%REQ(TRACEPARENT)%",
    }
    log_format = {"json_format": fields}
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": _typed("extensions.access_loggers.stream.v3.StdoutAccessLog", log_format=log_format),
    }


def _connection_manager(intent: GatewayIntent, keys: dict[str, str]) -> Json:
    virtual_host = {
        "name": "platform",
        "domains": [domain for host in intent.hosts for domain in (host, f"{host}:*")],
        "routes": [_route(route) for route in sorted(intent.routes, key=lambda r: -len(r.prefix))],
        # Who calls is what is found out here or behind, never what the caller says.
        **({"request_headers_to_remove": ["x-client-id"]} if intent.services_ask else {}),
    }
    filters = [
        _rate_limit(intent),
        *([] if intent.services_ask else [_api_key(keys)]),
        _filter("buffer", "buffer.v3.Buffer", max_request_bytes=intent.max_body_bytes),
        _filter("router", "router.v3.Router"),
    ]
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": _typed(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="gateway",
            codec_type="AUTO",
            generate_request_id=True,
            preserve_external_request_id=True,
            use_remote_address=True,
            normalize_path=True,
            merge_slashes=True,
            path_with_escaped_slashes_action="REJECT_REQUEST",
            stream_idle_timeout=f"{max(r.idle_timeout_seconds for r in intent.routes)}s",
            request_headers_timeout="10s",
            server_header_transformation="PASS_THROUGH",
            access_log=[_access_log()],
            local_reply_config=_ERRORS,
            http_filters=filters,
            route_config={"name": "platform", "virtual_hosts": [virtual_host]},
        ),
    }


def _listener(intent: GatewayIntent, keys: dict[str, str]) -> Json:
    certificate = {
        "certificate_chain": {"filename": f"{TLS_FOLDER}/tls.crt"},
        "private_key": {"filename": f"{TLS_FOLDER}/tls.key"},
    }
    tls = _typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [certificate],
        },
    )
    return {
        "name": "https",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": LISTEN_PORT}},
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [
            {
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                "filters": [_connection_manager(intent, keys)],
            }
        ],
    }


def _status_listener() -> Json:
    """Readiness and metrics for the cluster. The admin port itself, which shows keys, stays on loopback."""
    paths = ("/ready", "/stats/prometheus")
    routes = [{"match": {"path": path}, "route": {"cluster": "admin"}} for path in paths]
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="status",
        http_filters=[_filter("router", "router.v3.Router")],
        route_config={
            "name": "status",
            "virtual_hosts": [{"name": "status", "domains": ["*"], "routes": routes}],
        },
    )
    connection_manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": "status",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": STATUS_PORT}},
        "filter_chains": [{"filters": [connection_manager]}],
    }


def render(intent: GatewayIntent, keys: dict[str, str]) -> Json:
    """The bootstrap; `keys` maps a client's name to its API key, so the result is a secret."""
    backends = {route.backend.name: route.backend for route in intent.routes}
    admin = Backend("admin", "127.0.0.1", ADMIN_PORT)
    return {
        "node": {"id": "gateway", "cluster": "cogniforge"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN_PORT}}},
        "static_resources": {
            "listeners": [_listener(intent, keys), _status_listener()],
            "clusters": [*(_cluster(b) for _, b in sorted(backends.items())), _cluster(admin)],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": _typed(
                        "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=10_000,
                    ),
                }
            ]
        },
    }
