"""Snapshots of the secret store: runs the schedule's task now, with another action."""

from __future__ import annotations

import contextlib
import copy
import json
import uuid
from collections.abc import Generator, Sequence
from typing import Any

from cli import jobs
from components.security.store_rights import AUDIENCE, SNAPSHOTS_ACCOUNT
from local.errors import LocalError

OPERATOR = f"{AUDIENCE}-operator"
_TOKEN_MOUNT = "/etc/operator"
_WHAT = "snapshots"


def run(kubectl: Sequence[str], namespace: str, action: str, name: str = "") -> str:
    """Run the task with this action (take, list, restore); returns what it says. Raises LocalError.

    `name`: the snapshot to restore; empty for the newest.
    """
    base = [*kubectl, "--namespace", namespace]
    found = _kubectl(base, "get", "cronjob", SNAPSHOTS_ACCOUNT, "--ignore-not-found", "-o", "json")
    if not found.strip():
        raise LocalError(
            "there are no snapshots of a secret store",
            reason=f"namespace {namespace} has no schedule {SNAPSHOTS_ACCOUNT}",
            fix="add security.secretStore and data.objectStore to the stack file, then run `forge up`",
        )
    job = _job(json.loads(found), action, name)
    with _operator(base, job) if action == "restore" else contextlib.nullcontext():
        return jobs.run(base, job, _WHAT)


def _job(schedule: dict[str, Any], action: str, name: str) -> dict[str, Any]:
    """A Job as the schedule's, with the action."""
    template = copy.deepcopy(schedule["spec"]["jobTemplate"])
    spec = template["spec"]
    spec["backoffLimit"] = 0  # a failure is shown at once
    (container,) = spec["template"]["spec"]["containers"]
    container["env"] += [{"name": "ACTION", "value": action}, {"name": "NAME", "value": name}]
    named = {"name": f"{SNAPSHOTS_ACCOUNT}-{action}-{uuid.uuid4().hex[:8]}", "labels": template["metadata"]["labels"]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": named, "spec": spec}


@contextlib.contextmanager
def _operator(base: Sequence[str], job: dict[str, Any]) -> Generator[None]:
    """Give the Job a token of the operator's account, for ten minutes. The schedule's own account may not restore."""
    name = job["metadata"]["name"]
    token = _kubectl(base, "create", "token", OPERATOR, "--audience", AUDIENCE, "--duration", "10m").strip()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": job["metadata"], "stringData": {"token": token}}
    pod = job["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "operator", "secret": {"secretName": name}})
    container = pod["containers"][0]
    container["volumeMounts"].append({"name": "operator", "mountPath": _TOKEN_MOUNT, "readOnly": True})
    container["env"].append({"name": "OPERATOR_TOKEN", "value": f"{_TOKEN_MOUNT}/token"})
    _kubectl(base, "create", "-f", "-", given=json.dumps(secret))
    try:
        yield
    finally:
        _kubectl(base, "delete", "secret", name, "--ignore-not-found")


def _kubectl(base: Sequence[str], *arguments: str, given: str | None = None) -> str:
    return jobs.kubectl(base, _WHAT, *arguments, given=given)
