"""Renders the routes of a gateway intent for Envoy. Pure functions: no Pulumi, no cluster."""

from __future__ import annotations

from components.mesh import envoy_authorizer
from components.mesh.envoy_base import BUFFER_BYTES, Json, set_header, typed
from components.mesh.routes import (
    ENCODED_SLASH,
    HIDDEN_HEADERS,
    OPERATORS_PREFIX,
    REFUSED_PATHS,
    Backend,
    Cors,
    Document,
    GatewayIntent,
    Route,
)

_REQUEST_ID = "%REQ(X-REQUEST-ID)%"
_FORWARDED = ("forwarded", "x-forwarded-host", "x-forwarded-prefix")
"""Headers by which a caller could tell a service another address of the platform."""
_READS = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}


def virtual_host(intent: GatewayIntent, closed: bool) -> Json:
    """Virtual host with all routes, in the order in which Envoy tries them.

    `closed`: whether operators' paths answer 404, as unknown paths do.
    """
    return {
        "name": "platform",
        "domains": [domain for host in intent.hosts for domain in (host, f"{host}:*")],
        "routes": [*(_closed(intent) if closed else []), *_routes(intent)],
        "response_headers_to_remove": list(HIDDEN_HEADERS),
        "response_headers_to_add": [set_header("request-id", _REQUEST_ID)],
        # A request with a longer body is not retried.
        "request_body_buffer_limit": BUFFER_BYTES,
        # Callers cannot set these headers: only the gateway and the services identify callers, and Keycloak puts the
        # forwarded host and port into addresses. Envoy removes a caller's x-forwarded-for and x-forwarded-proto itself.
        "request_headers_to_remove": [*_FORWARDED, *(["x-client-id"] if intent.services_ask else [])],
        "request_headers_to_add": [set_header("x-forwarded-port", str(intent.port))],
        **({"typed_per_filter_config": {"envoy.filters.http.cors": _cors(intent.cors)}} if intent.cors else {}),
    }


def _closed(intent: GatewayIntent) -> list[Json]:
    paths = [document.path for document in intent.documents if document.operators]
    matches = [{"path_separated_prefix": OPERATORS_PREFIX}, *({"path": path} for path in paths)]
    return [{"name": OPERATORS_PREFIX, "match": match, "direct_response": {"status": 404}} for match in matches]


def _routes(intent: GatewayIntent) -> list[Json]:
    longest_first = sorted(intent.routes, key=lambda route: -len(route.prefix))
    return [
        *([_about(intent.about, asks=intent.authorizer is not None)] if intent.about else []),
        *(_refusal(path) for path in REFUSED_PATHS),
        *(
            found
            for route in longest_first
            if route.encoded_slash
            for found in _route(route, _regex(route.encoded), intent.names_backends)
        ),
        _refusal(ENCODED_SLASH),
        *(_document(document, intent.names_backends) for document in intent.documents),
        *(found for route in longest_first for found in _route(route, _prefix(route.prefix), intent.names_backends)),
    ]


def _regex(path: str) -> Json:
    return {"safe_regex": {"regex": path}}


def _prefix(prefix: str) -> Json:
    return {"prefix": prefix} if prefix.endswith("/") else {"path_separated_prefix": prefix}


def _about(text: str, *, asks: bool) -> Json:
    anybody = typed("config.route.v3.FilterConfig", disabled=True)
    return {
        "name": "/",
        "match": {"path": "/", "headers": [_READS]},
        "direct_response": {"status": 200, "body": {"inline_string": text}},
        "response_headers_to_add": [set_header("content-type", "application/json")],
        "typed_per_filter_config": {
            "envoy.filters.http.api_key_auth": anybody,
            **(envoy_authorizer.unasked() if asks else {}),
        },
    }


def _refusal(path: str) -> Json:
    return {"match": _regex(path), "direct_response": {"status": 400}}


def _too_large(route: Route, match: Json) -> Json:
    """Route that refuses requests by content-length. For chunked bodies, the service enforces the limit."""
    longer = {"range_match": {"start": route.max_body_bytes + 1, "end": 2**63 - 1}}
    return {
        "name": route.prefix,
        "match": {**match, "headers": [{"name": "content-length", **longer}]},
        "direct_response": {"status": 413},
    }


def _document(document: Document, named: bool) -> Json:
    return {
        "name": document.path,
        "match": {"path": document.path, "headers": [_READS]},
        "route": {
            "cluster": document.backend.name,
            "prefix_rewrite": document.path_there,
            "timeout": "10s",
            **(_host(document.backend) if named else {}),
        },
    }


def _host(backend: Backend) -> Json:
    return {"host_rewrite_literal": f"{backend.host}:{backend.port}", "append_x_forwarded_host": True}


def _route(route: Route, match: Json, named: bool) -> list[Json]:
    there = {
        "name": route.prefix,
        "match": match,
        "route": {
            "cluster": route.backend.name,
            "timeout": f"{route.timeout_seconds}s",
            "idle_timeout": f"{route.idle_timeout_seconds}s",
            # Retry only if the service certainly did not receive the request.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 3,
            },
            **(_host(route.backend) if named else {}),
        },
    }
    return [_too_large(route, match), there]


def _cors(cors: Cors) -> Json:
    return typed(
        "extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"exact": origin} for origin in cors.origins],
        allow_methods="GET, POST, PUT, PATCH, DELETE",
        # The wildcard covers all headers except this (Fetch standard, "CORS non-wildcard request-header name").
        allow_headers="authorization, *",
        expose_headers="*",
        max_age=str(cors.max_age_seconds),
        allow_credentials=False,
    )
