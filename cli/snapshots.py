"""Snapshots of the secret store: runs the schedule's task now, with another action."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import time
import uuid
from collections.abc import Generator, Sequence
from typing import Any

from components.security.store_rights import AUDIENCE, SNAPSHOTS_ACCOUNT
from local.errors import LocalError

OPERATOR = f"{AUDIENCE}-operator"
_TOKEN_MOUNT = "/etc/operator"
_WAIT_S = 300


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
        return _run(base, job)


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


def _run(base: Sequence[str], job: dict[str, Any]) -> str:
    """Create the Job, wait for its end, and return its output. The Job is deleted."""
    name = job["metadata"]["name"]
    _kubectl(base, "create", "-f", "-", given=json.dumps(job))
    try:
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            status = json.loads(_kubectl(base, "get", "job", name, "-o", "json")).get("status", {})
            if status.get("succeeded") or status.get("failed"):
                said = _kubectl(base, "logs", f"job/{name}").strip().removeprefix("snapshots: ")
                if status.get("succeeded"):
                    return said
                raise LocalError("the task of the snapshots failed", reason=said, fix="mend the cause, then try again")
            time.sleep(1)
        raise LocalError(
            f"the task of the snapshots did not end within {_WAIT_S} s",
            reason=_kubectl(base, "get", "pods", "--selector", f"job-name={name}").strip(),
            fix="see `forge status`",
        )
    finally:
        _kubectl(base, "delete", "job", name, "--ignore-not-found", "--wait=false")


def _kubectl(base: Sequence[str], *arguments: str, given: str | None = None) -> str:
    done = subprocess.run([*base, *arguments], capture_output=True, text=True, input=given)
    if done.returncode != 0:
        raise LocalError(
            "the cluster refuses a command of the snapshots",
            reason=f"kubectl {' '.join(arguments[:3])}: {done.stderr.strip()}",
            fix="see `forge status`",
        )
    return done.stdout
