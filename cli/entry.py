"""Entry point of `forge`. It handles Ctrl-C without a traceback, even while modules are loading."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the commands and run them."""
    try:
        from cli.main import main as run
    except KeyboardInterrupt:
        print("interrupted: nothing was started", file=sys.stderr)
        raise SystemExit(130) from None
    run()
