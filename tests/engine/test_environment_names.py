"""Resource names begin with the environment's name; objects with the former stage prefix are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cli import engine, stack
from local import paths

pytestmark = pytest.mark.engine
_PROGRAM = """
import os
import pulumi, pulumi_random
from components import former_names
from components.base import PlatformComponent

class Part(PlatformComponent):
    def __init__(self, name, opts=None):
        super().__init__("data", name, {}, opts)
        word = pulumi_random.RandomPassword(f"{name}-word", length=12, opts=self.child())
        self.finish({"kind": "", "namespace": "", "name": name, "probe": ""}, word=word.result)

name = os.environ["NAME"]
former_names.keep(name, "prod")
outer = Part(f"{name}-outer")
Part(f"{name}-inner", pulumi.ResourceOptions(parent=outer))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: names\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(_PROGRAM)
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/state")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "only for this test")


def _run(operation: str, *flags: str) -> Counter[str]:
    outcome = engine.run("prod-eu", operation, *flags)
    assert outcome.status == 0, outcome.text
    return Counter(e["resourcePreEvent"]["metadata"]["op"] for e in outcome.events if "resourcePreEvent" in e)


@pytest.mark.usefixtures("project")
def test_resources_that_were_named_after_the_stage_are_renamed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "prod")
    stack.ensure("prod-eu")
    assert _run("up", "--yes", "--skip-preview")["create"] == 6
    monkeypatch.setenv("NAME", "prod-eu")
    assert set(_run("preview")) == {"same"}
    assert set(_run("up", "--yes", "--skip-preview")) == {"same"}
    assert set(_run("preview")) == {"same"}
