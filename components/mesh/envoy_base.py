"""What all parts of Envoy's configuration are written with."""

from __future__ import annotations

from typing import Any

_TYPES = "type.googleapis.com/envoy"
Json = dict[str, Any]
BUFFER_BYTES = 32 * 1024
"""Held of a connection that is read faster than the other side takes it; then reading stops."""


def typed(kind: str, **fields: Any) -> Json:
    """A message of one of Envoy's extensions; `kind` is its name without the leading "envoy."."""
    return {"@type": f"{_TYPES}.{kind}", **fields}


def http_filter(name: str, kind: str, **fields: Any) -> Json:
    """An HTTP filter with its configuration."""
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed(f"extensions.filters.http.{kind}", **fields)}


def set_header(name: str, value: str) -> Json:
    """A header that replaces one of the same name."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
