"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from local import paths


class Format(StrEnum):
    """Output format of a command."""

    TEXT = "text"
    JSON = "json"


def environments() -> list[str]:
    """Names of the environments with a stack file under stacks/."""
    return sorted(file.stem.removeprefix("Pulumi.") for file in (paths.PROJECT / "stacks").glob("Pulumi.*.yaml"))


def _begun(incomplete: str) -> list[str]:
    """Names for shell completion."""
    return [name for name in environments() if name.startswith(incomplete)]


Stack = Annotated[
    str,
    typer.Option(
        "--stack", "-s", help="Environment: the NAME of its file stacks/Pulumi.NAME.yaml.", autocompletion=_begun
    ),
]
Output = Annotated[Format, typer.Option("--output", "-o", help="Output format: text, or json with a stable schema.")]
Tenant = Annotated[str, typer.Argument(help="ID of the tenant.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
