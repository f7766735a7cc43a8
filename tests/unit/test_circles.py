"""Dependencies point one way: the modules of a service have no import cycle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "service_images").glob("*/src"))


def imports(folder: Path) -> dict[str, set[str]]:
    """Imported modules of each module, also under TYPE_CHECKING and in functions, which readers follow too."""
    files = {_name(file.relative_to(folder)): file for file in folder.rglob("*.py")}
    return {module: _imported(module, file, files) - {module} for module, file in files.items()}


def _name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(module: str, file: Path, known: dict[str, Path]) -> set[str]:
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                one = f"{base}.{alias.name}"
                found.update(name for name in (one if one in known else base,) if name in known)
    return found


@pytest.mark.parametrize("folder", SOURCES, ids=lambda folder: folder.parent.name)
def test_the_modules_of_a_service_import_each_other_in_no_circle(folder: Path) -> None:
    graphlib.TopologicalSorter(imports(folder)).prepare()  # raises CycleError with the cycle


def test_a_circle_behind_type_checking_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "service"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("def ask():\n    from service import two\n")
    (package / "two.py").write_text("if TYPE_CHECKING:\n    from .one import ask\n")
    with pytest.raises(graphlib.CycleError, match=r"service\.one"):
        graphlib.TopologicalSorter(imports(tmp_path)).prepare()
