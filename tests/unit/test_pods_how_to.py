"""The how-to on pods: its examples are valid, and its program does what the page describes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components.config.parse import parse
from policies.access.render import Recorder, run
from tests.unit.test_platform import stack_file

pytestmark = pytest.mark.xdist_group("tree")
PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/pods.md").read_text()


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def merged(into: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    deeper = {k: merged(into[k] or {}, v) for k, v in more.items() if isinstance(into.get(k), dict)}
    return {**into, **more, **deeper}


@pytest.mark.parametrize("example", [text for text in examples("yaml") if "kind: PriorityClass" not in text])
def test_every_example_of_a_stack_file_is_valid(example: str) -> None:
    parse(merged(stack_file("local"), yaml.safe_load(example)))


def test_the_program_makes_a_gateway_with_its_settings() -> None:
    scope: dict[str, Any] = {}
    (program,) = examples("python")
    # In the checkout, the package has the name of its folder.
    exec(compile(program.replace("from cogniforge.", "from components."), "pods.md", "exec"), scope)
    args: dict[str, Any] = {
        "namespace": "space",
        "image": f"gateway@sha256:{'0' * 64}",
        "hosts": ["api.example.com"],
        "routes": [{"prefix": "/v1/", "backend": {"name": "till", "host": "till.shop", "port": 8080}}],
        "keys": {"somebody": "a key"},
        "certificate_secret": "tls",
        "certificate_version": "1",
        "replicas": 1,
        "cpu": "50m",
        "memory": "192Mi",
        "local_port_offset": 0,
    }
    mocks = Recorder()
    made: list[Any] = []
    run(mocks, lambda: made.append(scope["reserved"](args, pulumi.Output.from_input("edge-team"))), preview=False)
    (deployment,) = [r for r in mocks.resources if r.typ.endswith(":Deployment")]
    template = deployment.inputs["spec"]["template"]
    assert template["metadata"]["labels"]["example.com/team"] == "edge-team"
    assert template["spec"]["nodeSelector"] == {"pool": "edge"}
    assert {"name": "TZ", "value": "Europe/Berlin"} in template["spec"]["containers"][0]["env"]
    assert made[0].resources.service is not None
