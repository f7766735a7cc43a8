"""Renders the authorizer of a gateway intent for Envoy: ext_authz over gRPC. Pure functions: no Pulumi, no cluster."""

from __future__ import annotations

import re

from components.mesh.envoy_base import Json, http_filter, typed
from components.mesh.routes import Authorizer, OperatorOperation

CLUSTER = "authorizer"
BODY_BYTES = 8 * 1024
"""Beginning of a body that the authorizer receives."""
_SHOWN = ("authorization", "x-api-key", "sec-fetch-site", "x-request-id", "anthropic-version", "x-break-glass")
"""Headers that the authorizer receives, with the path and the method."""
_RBAC = "envoy.filters.http.rbac"
_MARK = "operators_"
_FAILED = {"code": "ServiceUnavailable"}
_AGAIN: Json = {
    "retry_on": "connect-failure,refused-stream,reset,unavailable",
    "num_retries": 8,
    "retry_back_off": {"base_interval": "0.002s", "max_interval": "0.05s"},
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
        }
    ],
    "host_selection_retry_max_attempts": 3,
}
"""A replica that ends costs no request: the next one is asked, within the same limit of time."""


def filters(authorizer: Authorizer) -> list[Json]:
    """The filters that ask the authorizer. Two of them where only operators' operations are closed without it."""
    if authorizer.closed:
        return [_asks("", authorizer, closed=True)]
    marked: Json = {
        "filter": _RBAC,
        "path": [{"key": f"{_MARK}shadow_engine_result"}],
        "value": {"string_match": {"exact": "allowed"}},
    }
    return [
        _marks(authorizer.operators),
        _asks(".operators", authorizer, closed=True, filter_enabled_metadata=marked),
        _asks("", authorizer, closed=False, filter_enabled_metadata={**marked, "invert": True}),
    ]


def _asks(suffix: str, authorizer: Authorizer, *, closed: bool, **more: Json) -> Json:
    body = {"max_request_bytes": BODY_BYTES, "allow_partial_message": True}
    return http_filter(
        f"ext_authz{suffix}",
        "ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        grpc_service={
            "envoy_grpc": {"cluster_name": CLUSTER, "authority": f"{authorizer.host}:{authorizer.port}"},
            "timeout": f"{authorizer.decision_ms / 1000}s",
            "retry_policy": _AGAIN,
        },
        failure_mode_allow=not closed,
        status_on_error=_FAILED,
        allowed_headers={"patterns": [{"exact": name} for name in _SHOWN]},
        **({"with_request_body": body} if authorizer.shows_body else {}),
        **more,
    )


def _marks(operations: tuple[OperatorOperation, ...]) -> Json:
    """Filter that refuses nothing: its shadow rules mark operators' operations for the filters behind it."""
    policies = {"operators": {"permissions": [_matches(one) for one in operations], "principals": [{"any": True}]}}
    return http_filter(
        "rbac.marks",
        "rbac.v3.RBAC",
        shadow_rules={"action": "ALLOW", "policies": policies},
        shadow_rules_stat_prefix=_MARK,
    )


def _matches(operation: OperatorOperation) -> Json:
    parts = ["[^/]+" if part.startswith("{") else re.escape(part) for part in operation.path.split("/")]
    method = "GET|HEAD" if operation.method == "GET" else operation.method
    rules = [
        {"header": {"name": ":method", "string_match": {"safe_regex": {"regex": method}}}},
        {"url_path": {"path": {"safe_regex": {"regex": "/".join(parts) + "/?"}}}},
    ]
    return {"and_rules": {"rules": rules}}


def unasked() -> Json:
    """Per-route configuration, by filter, of routes about which nobody is asked."""
    off = typed("config.route.v3.FilterConfig", disabled=True)
    return {f"envoy.filters.http.ext_authz{suffix}": off for suffix in ("", ".operators")}


REFUSED: Json = {"response_flag_filter": {"flags": ["UAEX"]}}
"""Matches local replies of the authorizer's filters: denials, and requests without a decision."""


def answers() -> list[Json]:
    """Mappers of local replies that leave the body of the authorizer's denials as it is."""
    value = {"default_value": 499, "runtime_key": "gateway.unused"}
    denial = {"status_code_filter": {"comparison": {"op": "LE", "value": value}}}
    body = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "application/json"}
    return [{"filter": {"and_filter": {"filters": [REFUSED, denial]}}, "body_format_override": body}]


def cluster(authorizer: Authorizer) -> Json:
    """The authorizer's replicas. A headless Service names all of them, and Envoy spreads its calls."""
    address = {"socket_address": {"address": authorizer.host, "port_value": authorizer.port}}
    return {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "0.25s",
        # Envoy's limit is three retries at a time: a connection that ends under five requests would fail one of them.
        "circuit_breakers": {"thresholds": [{"max_retries": 1000}]},
        "dns_lookup_family": "V4_ONLY",
        "dns_refresh_rate": "2s",
        "respect_dns_ttl": False,
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={
                    "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "2s"}}
                },
            )
        },
    }
