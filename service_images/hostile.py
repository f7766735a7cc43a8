"""Input of attackers, for tests."""

IDS = (
    "%00",
    "a%00b",
    "%ed%a0%80",
    "%F0%9F%98%80",
    "a" * 129,
    "a" * 10_000,
    "..%2Fevents",
    "..%2Ftenants",
    "a%2Fb",
    "'%20OR%201=1--",
)
"""IDs in a path: characters that no database stores, paths, SQL, and IDs of more than 128 characters."""
