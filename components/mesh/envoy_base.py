"""Helpers for writing Envoy's configuration."""

from __future__ import annotations

from typing import Any

_TYPES = "type.googleapis.com/envoy"
Json = dict[str, Any]
BUFFER_BYTES = 32 * 1024
"""Buffer per connection, in bytes, for data that the other side has not accepted yet. When full, reading stops."""


def typed(kind: str, **fields: Any) -> Json:
    """Typed configuration of an Envoy extension. `kind` is the message's name without the leading "envoy."."""
    return {"@type": f"{_TYPES}.{kind}", **fields}


def http_filter(name: str, kind: str, **fields: Any) -> Json:
    """An HTTP filter with its configuration."""
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed(f"extensions.filters.http.{kind}", **fields)}


def set_header(name: str, value: str) -> Json:
    """Header option that sets a header and replaces an existing one."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
