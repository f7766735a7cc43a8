"""Build backend (PEP 517): packs the checkout as one import package, `cogniforge`.

In the checkout the packages `components`, `cli`, `local` and `policies` lie side by side. The wheel holds `components`
as `cogniforge` and the others within it. The import statements are renamed while the files are copied, so that no
module has two names. setuptools makes the wheel from that copy. An editable installation keeps the checkout's names.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import tempfile
import tomllib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import build_editable, get_requires_for_build_editable, prepare_metadata_for_build_editable

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "prepare_metadata_for_build_editable",
]
NAME = "cogniforge"
LIBRARY = "components"
"""The package that becomes `cogniforge`."""
WITHIN = ("cli", "local", "policies")
"""Packages that become packages of `cogniforge`."""
DATA = "service_images"
"""The sources of the images: copied as they are, for `forge` to build."""
PLUGIN = PurePosixPath(LIBRARY, "plugin", "PulumiPlugin.yaml")
CHECKOUTS_ENVIRONMENT, OWN_ENVIRONMENT = b"../../.venv", b"../../../../.."
"""The plugin's virtual environment: the checkout's, and the one that has the wheel in lib/python3.x/site-packages."""
SCRIPT = "forge"
"""The one command of the wheel. The checkout's `pulumi` would take the place of the user's own."""
SETTING = "dirty"
Settings = Mapping[str, Any] | None


def build_wheel(directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build the wheel; returns its file name."""
    target = Path(directory).resolve()
    with _staged(config_settings):
        return build_meta.build_wheel(str(target))


def build_sdist(directory: str, config_settings: Settings = None) -> str:
    """Build a source distribution that has the wheel's layout already; returns its file name."""
    target = Path(directory).resolve()
    with _staged(config_settings):
        return build_meta.build_sdist(str(target))


@contextlib.contextmanager
def _staged(settings: Settings) -> Generator[None]:
    """A folder with the project in the wheel's layout, as the working directory."""
    checkout = Path.cwd()
    changed = refuse_changes(checkout, settings)
    os.environ.setdefault("SOURCE_DATE_EPOCH", _git(checkout, "log", "-1", "--format=%ct").strip())
    with tempfile.TemporaryDirectory() as folder:
        stage(checkout, Path(folder), changed)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(checkout)


def refuse_changes(checkout: Path, settings: Settings) -> bool:
    """Whether the checkout differs from its commit. Exits with the list of changes, unless the settings allow them."""
    try:
        changes = _git(checkout, "status", "--porcelain").splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"error: {checkout} is not a git checkout, so that the wheel's source is not known: {error}"
        ) from None
    if changes and (settings or {}).get(SETTING) != "allow":
        shown = "\n".join(f"  {line}" for line in (*changes[:10], *(["..."] if len(changes) > 10 else [])))
        raise SystemExit(
            f"error: the checkout differs from its commit; a wheel of it could not be made again:\n{shown}\n"
            f"  fix: commit or stash the changes, or build with `--config-settings {SETTING}=allow`, "
            f'which adds "+{SETTING}" to the version'
        )
    return bool(changes)


def _git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def stage(checkout: Path, folder: Path, changed: bool) -> None:
    """Copy what the wheel holds to `folder`, in its layout."""
    for source in _files(checkout):
        target = folder.joinpath(NAME, *_place(source).parts)
        if target.exists():
            raise SystemExit(f"error: two files would be {target.relative_to(folder)} in the wheel, one is {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        content = (checkout / source).read_bytes()
        if source == PLUGIN:
            content = content.replace(CHECKOUTS_ENVIRONMENT, OWN_ENVIRONMENT)
        target.write_bytes(renamed(content, str(source)) if _is_module(source) else content)
    commit = _git(checkout, "rev-parse", "HEAD").strip()
    (folder / NAME / "source.json").write_text(json.dumps({"commit": commit, "modified": changed}) + "\n")
    project: dict[str, Any] = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    for name in ("README.md", "LICENSE"):
        (folder / name).write_bytes((checkout / name).read_bytes())
    (folder / "MANIFEST.in").write_text(f"graft {NAME}\n")
    (folder / "pyproject.toml").write_text(_pyproject(project, changed))


def _files(checkout: Path) -> list[PurePosixPath]:
    listed = _git(
        checkout, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", LIBRARY, *WITHIN, DATA
    ).split("\0")
    found = {PurePosixPath(name) for name in listed if name and (checkout / name).is_file()}
    return sorted(path for path in found if not _is_test(path))


def _is_test(path: PurePosixPath) -> bool:
    """Whether it serves the tests of the services: those folders, and the modules beside the services' folders."""
    return path.parts[0] == DATA and ("tests" in path.parts[1:3] or len(path.parts) == 2)


def _is_module(path: PurePosixPath) -> bool:
    return path.suffix == ".py" and path.parts[0] != DATA


def _place(path: PurePosixPath) -> PurePosixPath:
    """Where a file of the checkout is in the package."""
    return PurePosixPath(*path.parts[1:]) if path.parts[0] == LIBRARY else path


def new_name(module: str) -> str:
    """A module's name in the wheel."""
    first, *rest = module.split(".")
    if first == LIBRARY:
        return ".".join((NAME, *rest))
    return f"{NAME}.{module}" if first in WITHIN else module


def renamed(source: bytes, file: str) -> bytes:
    """The module with its import statements renamed. Exits where a module is named in a way that cannot be renamed."""
    lines = source.splitlines(keepends=True)
    # From the end to the beginning, so that positions stay valid.
    for line, column, module in sorted(_names(ast.parse(source), file), reverse=True):
        text, end = lines[line - 1], column + len(module)
        if text[column:end] != module.encode():
            raise SystemExit(f'error: {file}:{line}: "{module}" must be on one line with its `from` or `import`')
        lines[line - 1] = text[:column] + new_name(module).encode() + text[end:]
    return b"".join(lines)


def _names(tree: ast.AST, file: str) -> Iterator[tuple[int, int, str]]:
    """Line, column and name of each module that an import statement names and that has another name in the wheel."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.module and not node.level and new_name(node.module) != node.module:
                yield node.lineno, node.col_offset + len("from "), node.module
        elif isinstance(node, ast.Import):
            for name in node.names:
                if new_name(name.name) == name.name:
                    continue
                if name.asname is None:  # later lines would name it, too
                    raise SystemExit(
                        f"error: {file}:{node.lineno}: write `from ... import` instead of `import {name.name}`"
                    )
                yield name.lineno, name.col_offset, name.name


def _pyproject(project: Mapping[str, Any], changed: bool) -> str:
    """The project's file for the wheel. JSON's texts and lists of texts are TOML's."""
    fields = {name: project[name] for name in ("name", "description", "readme", "requires-python", "license")}
    fields |= {
        "version": project["version"] + (f"+{SETTING}" if changed else ""),
        "dependencies": project["dependencies"],
    }
    module, _, function = project["scripts"][SCRIPT].partition(":")
    sections: dict[str, dict[str, Any]] = {
        "build-system": {"requires": ["setuptools>=77"], "build-backend": "setuptools.build_meta"},
        "project": fields,
        "project.scripts": {SCRIPT: f"{new_name(module)}:{function}"},
        "tool.setuptools": {"packages": [NAME]},
        "tool.setuptools.package-data": {NAME: ["**/*"]},
    }
    lines: list[str] = []
    for title, values in sections.items():
        lines += [f"[{title}]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
