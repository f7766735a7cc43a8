"""`python3 -m kit.describe <service>`: prints the service's OpenAPI document, without starting anything."""

from __future__ import annotations

import importlib
import json
import sys


def main(service: str) -> None:
    """A service's package has a function `document` in its module `api`."""
    print(json.dumps(importlib.import_module(f"{service}.api").document(), indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
