"""The project around the files of environments, where the platform is an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from components import sources
from components.config import schema
from local.errors import LocalError

_PROJECT, _PROGRAM = "Pulumi.yaml", "__main__.py"
_TEXT = f'''"""The Pulumi program: one configuration in, one platform out."""

from {sources.__package__}.program import deploy

deploy()
'''


def refuse_foreign(folder: Path) -> None:
    """Raise LocalError where the folder holds another project's files."""
    if sources.project_of(folder) == folder:
        return
    if there := [name for name in (_PROJECT, _PROGRAM) if (folder / name).exists()]:
        raise LocalError(
            f"{folder} is the folder of another program; nothing was written",
            reason=f"it has {' and '.join(there)}",
            fix="run `forge init` in an empty folder",
        )


def write(folder: Path) -> list[str]:
    """Write what is missing, and the schemas of this version. Returns the names of the new files, without schemas."""
    stacks = folder / "stacks"
    stacks.mkdir(exist_ok=True)
    schema.write(stacks)
    texts = {_PROJECT: yaml.safe_dump(_project(folder), sort_keys=False), _PROGRAM: _TEXT}
    new = {name: text for name, text in texts.items() if not (folder / name).exists()}
    for name, text in new.items():
        (folder / name).write_text(text)
    return sorted(new)


def _project(folder: Path) -> dict[str, object]:
    """The virtual environment is named where it is the project's own: others have it elsewhere."""
    prefix = Path(sys.prefix)
    options = {"virtualenv": str(prefix.relative_to(folder))} if prefix.is_relative_to(folder) else {}
    return {
        "name": sources.NAME,
        "description": "Environments of the CogniForge AI platform",
        "stackConfigDir": "stacks",
        "runtime": {"name": "python", "options": options} if options else "python",
    }
