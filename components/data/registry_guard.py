"""Envoy in front of the schema registry: all pods in the namespace may read, only the registry's setup task may write.

The registry itself supports authentication with OpenID Connect only, so it listens on loopback behind this proxy.
Pure: no Pulumi.
"""

from __future__ import annotations

from components.config.base import Resources
from components.mesh.envoy_base import BUFFER_BYTES, Json, http_filter, set_header, typed

RESOURCES = Resources(cpu="10m", memory="96Mi")
_HEAP_BYTES = 32 * 2**20
"""Share of the memory for requests. Envoy's program takes the rest."""
_KEYS = "envoy.filters.http.api_key_auth"


def render(port: int, registry_port: int, password: str) -> Json:
    """Envoy's bootstrap: proxy `port` to `registry_port` on loopback. Methods except GET and HEAD need the password."""
    keys = http_filter(
        "api_key_auth",
        "api_key_auth.v3.ApiKeyAuth",
        credentials=[{"client": "task", "key": password}],
        key_sources=[{"header": "authorization"}],
        forwarding={"hide_credentials": True},
    )
    anybody = typed("config.route.v3.FilterConfig", disabled=True)
    there: Json = {"match": {"prefix": "/"}, "route": {"cluster": "registry", "timeout": "60s"}}
    reads = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    reading = {
        **there,
        "match": {"prefix": "/", "headers": [reads]},
        # Some servers let this header override the method.
        "request_headers_to_remove": ["x-http-method-override"],
        "typed_per_filter_config": {_KEYS: anybody},
    }
    host = {"name": "registry", "domains": ["*"], "routes": [reading, there]}
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="registry",
        normalize_path=True,
        merge_slashes=True,
        request_headers_timeout="10s",
        request_timeout="60s",
        http_filters=[keys, http_filter("router", "router.v3.Router", suppress_envoy_headers=True)],
        route_config={
            "name": "registry",
            "virtual_hosts": [host],
            "response_headers_to_add": [set_header("cache-control", "no-store")],
        },
    )
    connections = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    heap = typed("extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=_HEAP_BYTES)
    trigger = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": 0.95}}
    return {
        "node": {"id": "registry-guard", "cluster": "cogniforge"},
        "static_resources": {
            "listeners": [
                {
                    "name": "http",
                    "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
                    "per_connection_buffer_limit_bytes": BUFFER_BYTES,
                    "filter_chains": [{"filters": [connections]}],
                }
            ],
            "clusters": [_registry(registry_port)],
        },
        "overload_manager": {
            "resource_monitors": [{"name": "envoy.resource_monitors.fixed_heap", "typed_config": heap}],
            "actions": [{"name": "envoy.overload_actions.stop_accepting_requests", "triggers": [trigger]}],
        },
    }


def _registry(port: int) -> Json:
    endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    return {
        "name": "registry",
        "type": "STATIC",
        "connect_timeout": "2s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "load_assignment": {
            "cluster_name": "registry",
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }
