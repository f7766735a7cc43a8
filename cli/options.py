"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from local import paths


class Format(StrEnum):
    """How a command prints its result."""

    TEXT = "text"
    JSON = "json"


def environments() -> list[str]:
    """Names of the environments that have a file under stacks/."""
    return sorted(file.stem.removeprefix("Pulumi.") for file in (paths.PROJECT / "stacks").glob("Pulumi.*.yaml"))


def _begun(incomplete: str) -> list[str]:
    """For the shell's completion."""
    return [name for name in environments() if name.startswith(incomplete)]


Stack = Annotated[
    str, typer.Option("--stack", "-s", help="Environment: the name of its file under stacks/.", autocompletion=_begun)
]
Output = Annotated[Format, typer.Option("--output", "-o", help="text, or json in a schema that stays.")]
Tenant = Annotated[str, typer.Argument(help="The tenant's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for a confirmation.")]
