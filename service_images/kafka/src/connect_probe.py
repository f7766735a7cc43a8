"""`connect_probe.py PORT FILE`: whether a Connect worker answers. FILE holds the login, as `user=password`."""

from __future__ import annotations

import base64
import sys
import urllib.request
from pathlib import Path


def request(port: str, login: str) -> urllib.request.Request:
    """The worker's list of connectors, which it has once it belongs to its group."""
    user, _, password = login.strip().partition("=")
    shown = base64.b64encode(f"{user}:{password}".encode()).decode()
    return urllib.request.Request(f"http://127.0.0.1:{port}/connectors", headers={"Authorization": f"Basic {shown}"})


if __name__ == "__main__":
    try:
        with urllib.request.urlopen(request(sys.argv[1], Path(sys.argv[2]).read_text()), timeout=4) as answer:
            raise SystemExit(0 if answer.status == 200 else 1)
    except (OSError, IndexError) as error:  # the pod's events show why
        print(error)
        raise SystemExit(1) from None
