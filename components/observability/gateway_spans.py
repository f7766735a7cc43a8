"""What the OpenTelemetry gateway does to the spans of the platform's gateway, in OTTL.

Envoy cannot leave out its own attributes, among them the client's address and user agent.
"""

from __future__ import annotations

import json
from typing import Any

from components.mesh.envoy_tracing import ATTRIBUTES, SCOPE

METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS"
"""Methods that may be in names. Clients may send any; others are named as OpenTelemetry's conventions say."""
_METHOD, _ROUTE, _STATUS = "http.request.method", "http.route", "http.response.status_code"
_NONE = "-"
"""Envoy's text for a value that there is not."""


def statements() -> dict[str, Any]:
    """Statements for spans. Only `envoy_tracing.ATTRIBUTES` are kept, with OpenTelemetry's types and span names."""
    method, route, status = (f'span.attributes["{name}"]' for name in (_METHOD, _ROUTE, _STATUS))
    own = f'where instrumentation_scope.name == "{SCOPE}"'
    return {
        "context": "span",
        "statements": [
            f"keep_keys(span.attributes, {json.dumps(list(ATTRIBUTES))}) {own}",
            f'delete_key(span.attributes, "{_ROUTE}") {own} and {route} == "{_NONE}"',
            f'delete_key(span.attributes, "response_flags") {own} and span.attributes["response_flags"] == "{_NONE}"',
            f'set({method}, "_OTHER") {own} and not IsMatch({method}, "^({METHODS})$$")',
            f"set(span.name, {method}) {own} and {route} == nil",
            f'set(span.name, Concat([{method}, {route}], " ")) {own} and {route} != nil',
            f'replace_pattern(span.name, "^_OTHER", "HTTP") {own}',
            # 0: the client has gone before there was an answer.
            f"set({status}, Int({status})) {own}",
            f'delete_key(span.attributes, "{_STATUS}") {own} and {status} == 0',
        ],
    }
