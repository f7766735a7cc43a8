"""Secrets that the collector removes from log lines, as regular expressions of RE2, which Go and Python read alike.

Services do not log secrets. These expressions are the second line, for libraries, other servers and users' services.
"""

from __future__ import annotations

REDACTED = "[redacted]"
_NAMES = "authorization|password|passwd|secret|client_secret|api_key|apikey|api-key|access_token|refresh_token|id_token"

PATTERNS: tuple[tuple[str, str], ...] = (
    # Value of a JSON field or of `name=value` whose name says that it is a secret.
    (rf'("(?i:{_NAMES})"\s*:\s*")(?:[^"\\]|\\.)+', "${1}" + REDACTED),
    (rf"\b((?i:{_NAMES})=)[^\s\"'&,;\\]+", "${1}" + REDACTED),
    # Credentials of HTTP, wherever they stand.
    (r"\b((?i:bearer|basic))\s+[A-Za-z0-9._~+/=-]{8,}", "${1} " + REDACTED),
    # User and password in a URL.
    (r"([a-z][a-z0-9+.-]*://)[^\s/@:\"']*:[^\s/@\"']+@", "${1}" + REDACTED + "@"),
    # Keys of this platform, of OpenAI and Anthropic, of AWS, and of GitHub.
    (r"\b(cf|sk)-[A-Za-z0-9_-]{16,}", REDACTED),
    (r"\b(AKIA|ASIA)[A-Z0-9]{16}\b", REDACTED),
    (r"\bgh[pousr]_[A-Za-z0-9]{20,}", REDACTED),
    # Tokens: JSON Web Tokens, and those of OpenBao.
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", REDACTED),
    (r"\b(hv[sbr]|[sbr])\.[A-Za-z0-9_-]{24,}", REDACTED),
    # Private keys in PEM, with real or escaped line breaks.
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*?(-----END [A-Z ]*PRIVATE KEY-----|$)", REDACTED),
)
"""(expression, replacement). A replacement names a group as `${1}`."""
