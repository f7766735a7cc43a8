"""Writes the zone of this pod's node to a file: `zone.py FILE`.

A broker uses the zone as its rack, so that replicas of a partition are in different zones. The downward API provides
the zone only since Kubernetes 1.35.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LABEL = "topology.kubernetes.io/zone"
TRIES = 5


def zone(node: dict[str, Any]) -> str:
    """Zone of a node, given as a Kubernetes object; empty if it has none."""
    return node["metadata"].get("labels", {}).get(LABEL, "")


def _node() -> dict[str, Any]:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    address = f"[{host}]" if ":" in host else host
    url = f"https://{address}:{port}/api/v1/nodes/{os.environ['NODE_NAME']}"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"})
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
        return json.load(answer)


def main(file: str) -> int:
    """Exit status 1 if the node cannot be read."""
    for number in range(TRIES):
        try:
            Path(file).write_text(zone(_node()))
            return 0
        except OSError as error:
            print(f"the node's zone is unknown: {error}", file=sys.stderr)
            time.sleep(2**number / 2)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
