"""Runs a Job once in an environment's cluster, and returns what it says."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from local.errors import LocalError

_WAIT_S = 300


def run(base: Sequence[str], job: dict[str, Any], what: str) -> str:
    """Create the Job, wait for its end, and return its output. The Job is deleted. Raises LocalError.

    `base`: kubectl with the namespace; `what`: name of the task for people.
    """
    name = job["metadata"]["name"]
    kubectl(base, what, "create", "-f", "-", given=json.dumps(job))
    try:
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            status = json.loads(kubectl(base, what, "get", "job", name, "-o", "json")).get("status", {})
            if status.get("succeeded") or status.get("failed"):
                said = kubectl(base, what, "logs", f"job/{name}").strip().removeprefix(f"{what}: ")
                if status.get("succeeded"):
                    return said
                raise LocalError(f"the task of the {what} failed", reason=said, fix="mend the cause, then try again")
            time.sleep(1)
        raise LocalError(
            f"the task of the {what} did not end within {_WAIT_S} s",
            reason=kubectl(base, what, "get", "pods", "--selector", f"job-name={name}").strip(),
            fix="see `forge status`",
        )
    finally:
        kubectl(base, what, "delete", "job", name, "--ignore-not-found", "--wait=false")


def completed(base: Sequence[str], *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """A kubectl command that has ended, with its output. `base`: kubectl with the namespace."""
    return subprocess.run([*base, *arguments], capture_output=True, text=True, input=given)


def ask(base: Sequence[str], what: str, namespace: str, service: str, path: str) -> str:
    """Answer of a Service ("name:port") of the cluster to GET, through the API server. Raises LocalError."""
    return kubectl(base, what, "get", "--raw", f"/api/v1/namespaces/{namespace}/services/{service}/proxy{path}")


def secret(base: Sequence[str], what: str, name: str, entry: str) -> str:
    """An entry of a Secret. `base`: kubectl with the namespace. Raises LocalError if the cluster refuses it."""
    found = kubectl(base, what, "get", "secret", name, "-o", "json")
    return base64.b64decode(json.loads(found)["data"][entry]).decode()


def kubectl(base: Sequence[str], what: str, *arguments: str, given: str | None = None) -> str:
    """Output of a kubectl command. Raises LocalError if the cluster refuses it."""
    done = completed(base, *arguments, given=given)
    if done.returncode != 0:
        raise LocalError(
            f"the cluster refuses a command of the {what}",
            reason=f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()}",
            fix="see `forge status`",
        )
    return done.stdout
