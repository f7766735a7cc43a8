"""Settings of pods through the real engine: a preview of dev with its stack file changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import paths
from tests.engine.test_environments import _pulumi

pytestmark = pytest.mark.engine
Preview = Callable[[dict[str, Any]], tuple[int, str]]


@pytest.fixture
def preview(tmp_path: Path) -> Preview:
    """Preview dev with settings of the Router's pods. Returns the exit status and all output."""
    initialised = _pulumi(tmp_path, "stack", "init", "dev", "--no-select")
    assert initialised.returncode == 0, initialised.stderr

    def run(pod: dict[str, Any]) -> tuple[int, str]:
        content = yaml.safe_load((paths.PROJECT / "stacks" / "Pulumi.dev.yaml").read_text())
        services = content["config"]["cogniforge:platform"]["services"]
        services["router"] = (services.get("router") or {}) | {"pod": pod}
        file = tmp_path / "Pulumi.dev.yaml"
        file.write_text(yaml.safe_dump(content))
        result = _pulumi(tmp_path, "preview", "--stack", "dev", "--config-file", str(file), "--json")
        return result.returncode, result.stdout if result.returncode == 0 else result.stdout + result.stderr

    return run


def test_a_preview_shows_the_settings_of_pods_and_refuses_the_platforms_own(preview: Preview) -> None:
    pod = {
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
        "priorityClassName": "high",
        "labels": {"example.com/team": "search"},
        "environment": {"EXTRA_SETTING": "on"},
    }
    status, output = preview(pod)
    assert status == 0, output
    steps = json.loads(output)["steps"]
    (router,) = [
        step["newState"]["inputs"]["spec"]["template"]
        for step in steps
        if step["urn"].endswith("kubernetes:apps/v1:Deployment::dev-router")
    ]
    assert router["spec"]["nodeSelector"] == {"pool": "cpu"}
    assert router["spec"]["tolerations"] == pod["tolerations"]
    assert router["spec"]["priorityClassName"] == "high"
    assert router["metadata"]["labels"]["example.com/team"] == "search"
    assert {"name": "EXTRA_SETTING", "value": "on"} in router["spec"]["containers"][0]["env"]

    status, output = preview({"environment": {"SERVICE_PORT": "1"}})
    assert status != 0
    assert "services.router.pod.environment.SERVICE_PORT" in output
    assert "the platform sets the variable SERVICE_PORT itself" in output
    assert "Traceback" not in output
