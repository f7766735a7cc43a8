"""Renders a gateway intent as Kong's plugins, routes and declarative configuration. Pure functions: no Pulumi."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from components.mesh import errors
from components.mesh.errors import ENCODED_PATH, GatewayError
from components.mesh.routes import (
    ENCODED_SLASH,
    HIDDEN_HEADERS,
    OPERATORS_PREFIX,
    REFUSED_PATHS,
    Backend,
    Cors,
    GatewayIntent,
    Route,
)

Json = dict[str, Any]
FORMAT = "3.0"
"""Version of Kong's declarative configuration format."""
CLIENT_HEADER = "x-client-id"
CONTENT_TYPE = "application/json"
_MILLISECONDS = 1000
_READS = ("GET", "HEAD")


@dataclass(frozen=True)
class Plugin:
    """One plugin with its configuration."""

    plugin: str
    config: Json
    variant: str = ""
    """Distinguishes several configurations of the same plugin."""

    @property
    def name(self) -> str:
        """Name of its Kubernetes object."""
        return "-".join(filter(None, ("gateway", self.plugin, self.variant)))


class Match(Enum):
    """How a route's path is matched. The values are those of the Gateway API."""

    PREFIX = "PathPrefix"
    EXACT = "Exact"
    REGEX = "RegularExpression"


@dataclass(frozen=True)
class KongRoute:
    """A route of Kong. Kong tries regular expressions before prefixes, and higher priorities first."""

    name: str
    match: Match
    path: str
    backend: Backend
    idle_timeout_seconds: int
    plugins: tuple[Plugin, ...]
    priority: int = 0
    methods: tuple[str, ...] = ()
    """HTTP methods; empty means all."""
    path_there: str = ""
    """Path that the backend receives instead."""
    refuses: bool = False
    """Whether Kong itself answers, without the backend."""

    @property
    def in_kongs_terms(self) -> str:
        """Path in Kong's own notation."""
        if self.match is Match.PREFIX:
            return self.path
        return f"~{self.path}" if self.match is Match.REGEX else f"~{self.path}$"


def plugins(intent: GatewayIntent) -> tuple[Plugin, ...]:
    """Plugins of all routes. Their order has no meaning: Kong runs plugins by built-in priorities."""
    return (
        *([] if intent.services_ask else [_authentication(intent)]),
        Plugin("correlation-id", {"header_name": "x-request-id", "generator": "uuid", "echo_downstream": True}),
        # Kong counts in fixed windows: the limit per minute is the sustained rate, the limit per second the burst.
        # Requests without the header are counted by address. In addition, nginx counts all requests by address.
        Plugin(
            "rate-limiting",
            {
                "second": intent.rates.per_key[1],
                "minute": intent.rates.per_key[0] * 60,
                "limit_by": "header",
                "header_name": "authorization",
                "policy": "local",
                "fault_tolerant": True,
                "error_code": 429,
                "error_message": errors.by_status(429).message,
            },
        ),
        # Callers cannot set these headers: only Kong and the services identify callers.
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
        Plugin("response-transformer", {"remove": {"headers": list(HIDDEN_HEADERS)}}),
        *([_cors(intent.cors)] if intent.cors else []),
    )


def _authentication(intent: GatewayIntent) -> Plugin:
    if intent.oidc is None:
        return Plugin("key-auth", {"key_names": ["authorization", "x-api-key"], "hide_credentials": True})
    # This plugin needs Kong's enterprise edition. The free jwt plugin cannot follow a provider's key rotation.
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


def _cors(cors: Cors) -> Plugin:
    settings: Json = {
        "origins": list(cors.origins),
        "methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
        # Without `headers`, Kong allows the headers that the browser requests.
        "exposed_headers": ["*"],
        "max_age": cors.max_age_seconds,
        "credentials": False,
        "preflight_continue": False,
    }
    return Plugin("cors", settings)


def _size(route: Route) -> Plugin:
    settings = {"allowed_payload_size": route.max_body_bytes, "size_unit": "bytes", "require_content_length": False}
    return Plugin("request-size-limiting", settings, str(route.max_body_bytes))


def _operators(intent: GatewayIntent) -> tuple[Plugin, ...]:
    """Plugins of the operators' paths, which refuse all addresses outside the configured networks."""
    if intent.operators.public:
        return ()
    refusal = errors.by_status(403)
    settings = {"allow": list(intent.operators.addresses), "status": refusal.status, "message": refusal.message}
    return (Plugin("ip-restriction", settings),) if intent.operators.addresses else ()


def _answer(status: int, body: str, variant: str) -> Plugin:
    return Plugin("request-termination", {"status_code": status, "content_type": CONTENT_TYPE, "body": body}, variant)


def _refusal(error: GatewayError) -> Plugin:
    return _answer(error.status, json.dumps(errors.openai_body(error)), error.code.replace("_", "-"))


def credentials(key: str) -> tuple[str, str]:
    """Header values that clients may send for a key: as a bearer token, as OpenAI's clients do, or the key alone."""
    return f"Bearer {key}", key


def host_names(intent: GatewayIntent) -> list[str]:
    """The intent's host names. IP addresses are left out, since the Gateway API does not allow them."""
    return [host for host in intent.hosts if not _is_address(host)]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def routes(intent: GatewayIntent) -> tuple[KongRoute, ...]:
    """All routes, including those that refuse requests."""
    common = plugins(intent)
    anywhere = intent.routes[0].backend  # the Gateway API requires a backend even if Kong itself answers
    idle = max(route.idle_timeout_seconds for route in intent.routes)

    def answering(name: str, match: Match, path: str, plugin: Plugin, **more: Any) -> KongRoute:
        return KongRoute(name, match, path, anywhere, idle, (*_open(common), plugin), refuses=True, **more)

    def found() -> Iterator[KongRoute]:
        for number, path in enumerate(REFUSED_PATHS):
            yield answering(f"refused-{number}", Match.REGEX, f"/{path}$", _refusal(ENCODED_PATH), priority=300)
        yield answering("refused-encoded", Match.REGEX, f"/{ENCODED_SLASH}", _refusal(ENCODED_PATH), priority=100)
        closed = not intent.operators.public and not intent.operators.addresses
        if closed:
            path = f"{re.escape(OPERATORS_PREFIX)}(/.*)?$"
            yield answering("operators", Match.REGEX, path, _refusal(errors.by_status(404)), priority=250)
        yield answering("nothing", Match.PREFIX, "/", _refusal(errors.by_status(404)))
        if intent.about:
            about = _answer(200, intent.about, "about")
            yield answering("about", Match.EXACT, "/", about, methods=_READS)
        for document in intent.documents:
            if closed and document.operators:
                continue
            of = PurePosixPath(document.path).stem if document.operators else document.backend.name
            there = document.backend, idle, (*common, *(_operators(intent) if document.operators else ()))
            yield KongRoute(
                f"document-{of}", Match.EXACT, document.path, *there, methods=_READS, path_there=document.path_there
            )
        for number, route in enumerate(intent.routes):
            own = _operators(intent) if route.prefix.startswith(OPERATORS_PREFIX) else ()
            name, more = f"{route.backend.name}-{number}", (*common, _size(route), *own)
            yield KongRoute(name, Match.PREFIX, route.prefix, route.backend, route.idle_timeout_seconds, more)
            if route.encoded_slash:
                there = route.backend, route.idle_timeout_seconds, more, 200
                yield KongRoute(f"{name}-encoded", Match.REGEX, route.encoded, *there)

    return tuple(found())


AUTHENTICATION = ("key-auth", "openid-connect")


def _open(common: tuple[Plugin, ...]) -> tuple[Plugin, ...]:
    """Plugins without authentication, for public answers of Kong itself."""
    return tuple(plugin for plugin in common if plugin.plugin not in AUTHENTICATION)


def declarative(intent: GatewayIntent, keys: dict[str, str]) -> Json:
    """The whole configuration in Kong's declarative format, for `deck gateway sync`."""
    consumers = [
        {"username": client, "keyauth_credentials": [{"key": value} for value in credentials(key)]}
        for client, key in sorted(keys.items())
    ]
    everywhere = [{"name": "prometheus", "config": {"status_code_metrics": True, "latency_metrics": True}}]
    services = [_service(route, intent) for route in routes(intent)]
    found: Json = {"_format_version": FORMAT, "services": services, "plugins": everywhere}
    return found if intent.oidc or intent.services_ask else {**found, "consumers": consumers}


def _service(route: KongRoute, intent: GatewayIntent) -> Json:
    regex = {"regex_priority": route.priority} if route.match is not Match.PREFIX else {}
    return {
        "name": route.name,
        "host": route.backend.host,
        "port": route.backend.port,
        "protocol": "http",
        "connect_timeout": 5 * _MILLISECONDS,
        # The timeout is between two reads, so it ends stalled streams. Kong has no limit for a whole answer.
        "read_timeout": route.idle_timeout_seconds * _MILLISECONDS,
        "write_timeout": route.idle_timeout_seconds * _MILLISECONDS,
        "retries": 3,
        **({"path": route.path_there} if route.path_there else {}),
        "routes": [
            {
                "name": route.name,
                "hosts": host_names(intent),
                "paths": [route.in_kongs_terms],
                "protocols": ["https"],
                "strip_path": bool(route.path_there),
                "preserve_host": True,
                # Bodies are not buffered, so the service can check the key before the whole body has arrived.
                "request_buffering": False,
                "response_buffering": False,
                **({"methods": list(route.methods)} if route.methods else {}),
                **regex,
            }
        ],
        "plugins": [{"name": plugin.plugin, "config": plugin.config} for plugin in route.plugins],
    }
