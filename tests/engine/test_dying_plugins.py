"""A plugin that dies: `forge preview` never ends with 0, whatever the engine's own exit status is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cli import engine, preview, stack
from local import paths

pytestmark = pytest.mark.engine
_PROGRAM = """
import pulumi, pulumi_random
for number in range(20):
    pulumi_random.RandomPassword(f"one-{number}", length=12)
"""
_PLUGIN = """#!{python}
import os, sys
sys.path.insert(0, {project!r})
from local.providers import server
from local.providers.random.provider import Random
death = {death!r}
if death == "at its start":
    sys.exit("it died")
class Dying(Random):
    checks = 0
    def Check(self, request, context):
        Dying.checks += 1
        if death == "in the middle" and Dying.checks > 10:
            os._exit(1)
        return super().Check(request, context)
    def Cancel(self, request, context):
        if death == "at its end":
            os._exit(1)
        return super().Cancel(request, context)
server.serve(Dying())
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: dying\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(_PROGRAM)
    (tmp_path / "state").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/state")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "only for this test")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def _install(project: Path, death: str) -> None:
    plugin = project / "bin" / "pulumi-resource-random"
    root = str(Path(__file__).resolve().parents[2])
    plugin.write_text(_PLUGIN.format(python=sys.executable, project=root, death=death))
    plugin.chmod(0o755)


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("death", ["at its start", "in the middle", "at its end"])
def test_a_preview_with_a_plugin_that_dies_fails(project: Path, death: str, shown: bool) -> None:
    _install(project, death)
    stack.ensure("test")
    outcome = engine.run("test", "preview", shown=shown)
    assert outcome.status != 0
    assert preview.read("test", outcome).errors


def test_a_preview_with_the_same_plugin_alive_succeeds(project: Path) -> None:
    _install(project, "never")
    stack.ensure("test")
    outcome = engine.run("test", "preview")
    assert (outcome.status, preview.read("test", outcome).errors) == (0, [])
    assert len([step for step in preview.read("test", outcome).steps if step.name.startswith("one-")]) == 20
