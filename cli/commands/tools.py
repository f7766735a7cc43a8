"""`forge tools`: Debian packages and Go tools."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output


def run(
    tests: Annotated[bool, typer.Option("--tests", help="Those that only tests need, too.")] = False,
) -> None:
    """Install the Debian packages and build the Go tools that are missing, so that `up` and the tests find them."""
    from local.toolchain import builder, packages
    from local.toolchain.tools import TOOLS

    if installed := packages.install():
        output.say(f"installed {', '.join(installed)}")
    wanted = [tool.name for tool in TOOLS.values() if tests or not tool.for_tests]
    for name, path in builder.resolve_all(wanted, output.BuildReport()).items():
        output.line(f"[green]ok[/]  {name}: {path}", indent=4)
