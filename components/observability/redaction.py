"""What the collectors remove from log lines and spans, as regular expressions of RE2, which Go and Python read alike.

Services do not log secrets. These expressions are the second line, for libraries, other servers and users' services.
"""

from __future__ import annotations

REDACTED = "[redacted]"
NAMES = "authorization|password|passwd|secret|client_secret|api_key|apikey|api-key|access_token|refresh_token|id_token"
"""Names of fields whose values are secrets, as alternatives of an expression."""

PATTERNS: tuple[tuple[str, str], ...] = (
    # Value of a JSON field or of `name=value` whose name says that it is a secret.
    (rf'("(?i:{NAMES})"\s*:\s*")(?:[^"\\]|\\.)+', "${1}" + REDACTED),
    (rf"\b((?i:{NAMES})=)[^\s\"'&,;\\]+", "${1}" + REDACTED),
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
PERSONAL: tuple[tuple[str, str], ...] = (
    (r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", REDACTED),
    # IBAN, payment cards in groups of four, international phone numbers, and social security numbers of the USA.
    (r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b", REDACTED),
    (r"\b(?:[0-9]{4}[ -]){3}[0-9]{4}\b", REDACTED),
    (r"\+[0-9]{1,3}[ ()-]?[0-9][0-9 ()-]{6,14}[0-9]\b", REDACTED),
    (r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", REDACTED),
)
"""(expression, replacement) of personal data, which the OpenTelemetry gateway removes from spans besides."""
