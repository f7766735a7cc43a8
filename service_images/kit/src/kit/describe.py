"""`python3 -m kit.describe <service>`: prints the service's OpenAPI document, without starting anything."""

from __future__ import annotations

import importlib
import json
import sys


def main(service: str) -> None:
    """Print the document that the function `document` in the service's module `api` returns."""
    print(json.dumps(importlib.import_module(f"{service}.api").document(), indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
