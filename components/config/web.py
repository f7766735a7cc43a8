"""Web addresses in the configuration, and where in the cluster or outside they point."""

from __future__ import annotations

from urllib.parse import urlsplit

_PORT = r"(:([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]))?"
SERVER = rf"https?://(\[[0-9A-Fa-f:]+\]|[^\s/@:\[\]]+){_PORT}"
"""Regular expression of an http(s) URL without a user and without a path."""


def port(url: str) -> int:
    """TCP port of an http(s) URL."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def destination(url: str) -> tuple[tuple[str, int] | None, tuple[int, ...]]:
    """(namespace, TCP port) of a Service of the cluster, and TCP ports of hosts elsewhere; an empty URL has neither."""
    host = urlsplit(url).hostname
    if not host:
        return None, ()
    service, _, rest = host.partition(".")
    namespace, _, suffix = rest.partition(".")
    if service and namespace and (not suffix or suffix.split(".")[0] == "svc"):
        return (namespace, port(url)), ()
    return None, (port(url),)
