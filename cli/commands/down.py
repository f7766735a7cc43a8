"""`forge down`: stops the local node."""

from __future__ import annotations


def run() -> None:
    """Stop the local node. Its data stays."""
    from cli import local_environment

    local_environment.down()
