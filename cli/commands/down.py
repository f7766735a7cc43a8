"""`forge down`: the local node stops."""

from __future__ import annotations


def run() -> None:
    """Stop the local node; data stays."""
    from cli import local_environment

    local_environment.down()
