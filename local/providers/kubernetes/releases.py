"""Helm releases in a simulated AWS account. They are recorded in the state, but never installed."""

from __future__ import annotations

import os
from typing import Any

SIMULATION_VARIABLE = "COGNIFORGE_SIMULATED_AWS"
_TYPE = "kubernetes:helm.sh/v3:Release"


def recorded(urn: str) -> bool:
    """Whether a resource is a release that is only recorded."""
    return bool(os.environ.get(SIMULATION_VARIABLE)) and urn.split("::")[2].split("$")[-1] == _TYPE


def identifier(inputs: dict[str, Any]) -> str:
    """ID of a release: namespace/name, as in the real provider."""
    return f"{inputs.get('namespace', 'default')}/{inputs['name']}"


def outputs(inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs of a release: its inputs, and a status that does not claim a deployment."""
    status = {
        "name": inputs["name"],
        "namespace": inputs.get("namespace", "default"),
        "version": inputs.get("version", ""),
        "status": "simulated",
    }
    return {**inputs, "resourceNames": {}, "status": status}
