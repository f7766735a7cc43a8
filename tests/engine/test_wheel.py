"""The wheel in a folder without a checkout: its content, its import names, and its `forge`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from local import paths
from tests import wheel

pytestmark = pytest.mark.engine
# Every module, except for those that run code when they are imported.
LOAD = """
import collections, importlib, json, pathlib, pkgutil, sys
import cogniforge
for found in pkgutil.walk_packages(cogniforge.__path__, "cogniforge.", onerror=lambda name: sys.exit(name)):
    if not found.name.endswith(".__main__") and not found.name.startswith("cogniforge.service_images"):
        importlib.import_module(found.name)
files = collections.defaultdict(list)
for name, module in list(sys.modules.items()):
    if getattr(module, "__file__", None) and name != "__main__":
        files[str(pathlib.Path(module.__file__).resolve())].append(name)
print(json.dumps({"files": files, "path": sys.path}))
"""
# Files that determine the content of each image built from sources, and of each tool.
KEYS = """
import json, pathlib, sys
from {package}local.images import catalogue, context
from {package}local.toolchain.tools import TOOLS
images = [one for one in catalogue.IMAGES.values() if not (one.tools or one.rootfs or one.wheels or one.jars)]
print(json.dumps({{one.name: context.assemble(one, pathlib.Path(sys.argv[1])) for one in images}}))
print(json.dumps({{name: tool.key() for name, tool in TOOLS.items()}}))
"""
EKS = (
    *("init", "prod-eu", "--on", "eks", "--stage", "prod", "--size", "small", "--region", "eu-central-1"),
    *("--registry", "registry.example.com/x", "--account", "444444444444", "--owner", "us", "--host", "api.example.eu"),
    *("--admin", "arn:aws:iam::444444444444:role/admin", "--vpc-cidr", "10.40.0.0/16"),
)


def test_the_wheel_gives_one_import_package_and_one_command(installed_wheel: Path) -> None:
    (file,) = installed_wheel.parent.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        assert {name.split("/")[0].partition("-")[0] for name in archive.namelist()} == {"cogniforge"}
        (scripts,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert archive.read(scripts).decode().split("\n")[:2] == [
            "[console_scripts]",
            "forge = cogniforge.cli.entry:main",
        ]
    assert not (installed_wheel / "bin" / "pulumi").exists()


def test_each_module_has_one_name_and_none_is_of_the_checkout(installed_wheel: Path, tmp_path: Path) -> None:
    command = [str(installed_wheel / "bin" / "python"), "-c", LOAD]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    ours = {file: names for file, names in found["files"].items() if any(n.startswith("cogniforge") for n in names)}
    assert len(ours) > 150
    assert {file: names for file, names in ours.items() if len(names) > 1} == {}
    elsewhere = [file for file in [*ours, *found["path"]] if Path(file).is_relative_to(paths.PROJECT)]
    assert elsewhere == []


def test_images_and_tools_are_built_from_the_same_sources_as_in_the_checkout(
    installed_wheel: Path, tmp_path: Path
) -> None:
    def keys(python: str, package: str) -> list[dict[str, str]]:
        command = [python, "-c", KEYS.format(package=package), str(tmp_path / "context")]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    images, tools = keys(str(installed_wheel / "bin" / "python"), "cogniforge.")
    assert len(images) > 5
    assert [images, tools] == keys(sys.executable, "")


def test_forge_works_in_an_empty_folder_and_writes_nothing_to_the_package(
    installed_wheel: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KUBECONFIG")}
    env["COGNIFORGE_HOME"] = str(tmp_path / "home")
    before = _files(installed_wheel)

    def forge(*arguments: str, status: int | None = 0) -> str:
        command = [str(installed_wheel / "bin" / "forge"), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, cwd=project, env=env)
        assert status in (None, result.returncode), result.stdout + result.stderr
        return " ".join((result.stdout + result.stderr).split())

    assert forge("--version").startswith("forge 0.")
    # Exit status and ports are not checked, since another node may be running here.
    assert "Pulumi CLI and engine" in forge("doctor", status=None)
    assert "run `forge init prod-eu`" in forge("preview", "-s", "prod-eu", status=1)
    assert "Wrote Pulumi.yaml and __main__.py" in forge(*EKS)
    # No image of this version is released, so `forge up` is refused, after a list of all changes.
    preview = forge("preview", "-s", "prod-eu", status=1)
    assert "Preview of prod-eu: would be refused" in preview
    assert 'image "router" 0.1.0 is not released' in preview
    assert "EksCluster" in preview
    assert _files(installed_wheel) == before


def _files(folder: Path) -> dict[str, int]:
    """Files with their modification times, except for the interpreter's."""
    found = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {str(file): file.stat().st_mtime_ns for file in found}


def test_the_plugin_of_the_wheel_has_the_checkouts_schema(installed_wheel: Path, tmp_path: Path) -> None:
    (plugin,) = installed_wheel.glob("lib/python*/site-packages/cogniforge/plugin")
    command = [str(installed_wheel / "bin" / "forge"), "pulumi", "package", "get-schema", str(plugin)]
    env = {**os.environ, "COGNIFORGE_HOME": str(tmp_path / "home")}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr
    schema = paths.PROJECT / "docs" / "reference" / "components.schema.json"
    assert json.loads(result.stdout[result.stdout.index("{") :]) == json.loads(schema.read_text())


def test_a_wheel_of_a_clean_checkout_is_the_same_twice_and_of_a_changed_one_is_refused(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--shared", str(paths.PROJECT), str(clone)], check=True)

    def make(*flags: str) -> subprocess.CompletedProcess[str]:
        environment = Path(sys.prefix)
        command = ["make", "-o", str(environment / ".installed"), f"VENV={environment}", "wheel", *flags]
        return subprocess.run(command, capture_output=True, text=True, cwd=clone)

    made = make()
    assert made.returncode == 0, made.stderr
    (first,) = (clone / "dist").glob("*.whl")
    assert "dirty" not in first.name
    assert first.read_bytes() == wheel.build(tmp_path / "two", clone).read_bytes()
    (clone / "components" / "base.py").write_text("changed = True\n")
    refused = make()
    assert refused.returncode != 0
    assert "M components/base.py" in refused.stderr
    assert make("WHEEL_FLAGS=--config-settings dirty=allow").returncode == 0
    assert len([*(clone / "dist").glob("*+dirty-*.whl")]) == 1
