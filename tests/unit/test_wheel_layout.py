"""The build backend only renames imports, and refuses a dirty checkout. No wheel is built here."""

from __future__ import annotations

import ast
import runpy
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local import paths

BACKEND = runpy.run_path(str(paths.PROJECT / "distribution" / "cogniforge_backend.py"))
RENAMED = ("components", "cli", "local", "policies")
WORDS = st.sampled_from(["base", "config", "cli", "local", "paths", "components", "x"])
MODULES = st.builds(
    lambda first, rest: ".".join([first, *rest]),
    st.sampled_from([*RENAMED, "os", "pulumi"]),
    st.lists(WORDS, max_size=3),
)
STATEMENTS = st.one_of(
    st.builds(lambda module, name: f"from {module} import {name}", MODULES, WORDS),
    st.builds(
        lambda module, one, two: f"from {module} import (\n    {one},\n    {two} as y,\n)", MODULES, WORDS, WORDS
    ),
    st.builds(lambda one, two: f"import {one} as a, {two} as b", MODULES, MODULES),
    st.builds(lambda module: f"def f():\n    'ä'; from {module} import x\n", MODULES),
    st.builds(lambda module: f"text = 'from {module} import x  # ä'", MODULES),
    st.builds(lambda module: f"local = 1\ncli = local  # {module}", MODULES),
    st.builds(lambda name: f"from . import {name}\nfrom .cli import {name} as z", WORDS),
)


class _Renamer(ast.NodeTransformer):
    """The same on the syntax tree."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.module and not node.level:
            node.module = BACKEND["new_name"](node.module)
        return node

    def visit_Import(self, node: ast.Import) -> ast.Import:
        for one in node.names:
            one.name = BACKEND["new_name"](one.name)
        return node


@given(st.lists(STATEMENTS, max_size=8))
def test_imports_are_renamed_and_nothing_else_changes(statements: list[str]) -> None:
    source = "\n".join(statements)
    wanted = ast.unparse(_Renamer().visit(ast.parse(source)))
    found = BACKEND["renamed"](source.encode(), "module.py")
    assert ast.unparse(ast.parse(found)) == wanted
    assert len(found.splitlines()) == len(source.splitlines())


@pytest.mark.parametrize("source", ["import local.paths", "import os, components", "from \\\n  local import paths"])
def test_an_import_that_cannot_be_renamed_stops_the_build(source: str) -> None:
    with pytest.raises(SystemExit, match=r"module\.py:1"):
        BACKEND["renamed"](source.encode(), "module.py")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("staged")
    BACKEND["stage"](paths.PROJECT, folder, True)
    return folder


def test_no_module_of_the_wheel_names_one_by_its_name_in_the_checkout(staged: Path) -> None:
    """Strings are renamed too: `import_module` and `python -m` would load a second copy of the package, or fail."""
    found: list[str] = []
    for file in (staged / "cogniforge").rglob("*.py"):
        if "service_images" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]
            found += [f"{file}: {name}" for name in names if _is_module(name)]
    assert found == []


def _is_module(name: str) -> bool:
    place = paths.PROJECT.joinpath(*name.split("."))
    return name.split(".")[0] in RENAMED and "." in name and (place.is_dir() or place.with_suffix(".py").is_file())


def test_the_wheel_holds_every_file_that_forge_reads(staged: Path) -> None:
    package = staged / "cogniforge"
    for folder in ("local/toolchain", "service_images/kit/src", "policies/crossguard"):
        mine = Counter(f.suffix for f in (package / folder).rglob("*") if f.is_file())
        theirs = subprocess.run(["git", "ls-files", folder], cwd=paths.PROJECT, capture_output=True, text=True).stdout
        assert mine >= Counter(Path(name).suffix for name in theirs.splitlines() if (paths.PROJECT / name).exists())
    for name in ("py.typed", "versions.lock.yaml", "released_schemas.json", "plugin/PulumiPlugin.yaml"):
        assert (package / name).is_file()
    for folder in (paths.PROJECT / "service_images").iterdir():
        if (folder / "Containerfile").exists():
            assert (package / "service_images" / folder.name / "Containerfile").is_file()
    assert not [f for f in (package / "service_images").rglob("*") if "tests" in f.parts]


def test_the_wheel_has_one_command(staged: Path) -> None:
    project = tomllib.loads((staged / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"forge": "cogniforge.cli.entry:main"}
    checkout = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == checkout["dependencies"]
    assert project["version"] == f"{checkout['version']}+dirty"


def _repository(folder: Path) -> Path:
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
    return folder


def test_a_wheel_of_changes_is_refused_with_their_list(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    checkout = _repository(tmp_path)
    refuse = BACKEND["refuse_changes"]
    assert refuse(checkout, None) is False
    (tmp_path / "one").write_text("2")
    (tmp_path / "two").write_text("2")
    with pytest.raises(SystemExit) as error:
        refuse(checkout, None)
    assert " M one" in str(error.value)
    assert "?? two" in str(error.value)
    assert "--config-settings dirty=allow" in str(error.value)
    assert refuse(checkout, {"dirty": "allow"}) is True


def test_a_wheel_of_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not a git checkout"):
        BACKEND["refuse_changes"](tmp_path, {"dirty": "allow"})
