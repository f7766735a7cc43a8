"""Differences between Keycloak's realm and its declaration: runs the realm's task, which then changes nothing."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from cli import jobs
from components.data.server import task_name
from components.security.keycloak import PART as SERVER
from components.security.keycloak_realm import PART
from local.errors import LocalError

_WHAT = "realm"


def differences(kubectl: Sequence[str], namespace: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """(verb, what, changed fields) of each difference. Raises LocalError."""
    base = [*kubectl, "--namespace", namespace]
    label = f"app.kubernetes.io/name={task_name(SERVER)}"
    found = json.loads(jobs.kubectl(base, _WHAT, "get", "jobs", "--selector", label, "-o", "json"))["items"]
    if not found:
        raise LocalError(
            "the realm cannot be compared with its declaration",
            reason=f"namespace {namespace} has no Job of {task_name(SERVER)}",
            fix="run `forge up`",
        )
    newest = max(found, key=lambda job: job["metadata"]["creationTimestamp"])
    *_, said = jobs.run(base, _job(newest), _WHAT).splitlines()
    return list(_parsed(json.loads(said.removeprefix("realm: "))))


def _parsed(lines: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Parts of "change role operator; description: "x" -> "y""."""
    for line in lines:
        first, *fields = line.split("; ")
        verb, _, what = first.partition(" ")
        yield verb, what, tuple(one.partition(":")[0] for one in fields)


def _job(made: dict[str, Any]) -> dict[str, Any]:
    """A Job like the one of the last update, which only shows."""
    template = copy.deepcopy(made["spec"]["template"])
    # The API server adds labels of the Job itself.
    own = {key: value for key, value in template["metadata"]["labels"].items() if key.startswith("app.kubernetes.io/")}
    template["metadata"] = {"labels": own}
    (container,) = template["spec"]["containers"]
    container["env"] = [*container["env"], {"name": "ACTION", "value": "show"}]
    meta = {"name": f"{PART}-show-{uuid.uuid4().hex[:8]}", "labels": own}
    spec = {"backoffLimit": 0, "activeDeadlineSeconds": 300, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}
