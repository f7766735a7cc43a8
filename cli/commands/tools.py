"""`forge tools`: Debian packages, Go tools, and the schemas that tests use."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output


def run(
    tests: Annotated[bool, typer.Option("--tests", help="Also what only tests need: tools and schemas.")] = False,
) -> None:
    """Install missing Debian packages and build missing Go tools, for `up` and the tests."""
    from cli import local_environment, stack
    from local.toolchain import builder, packages, upstream_schemas
    from local.toolchain.tools import TOOLS

    if installed := packages.install():
        output.say(f"installed {', '.join(installed)}")
    here = stack.config_file("local").exists()
    needed = local_environment.tools(stack.read_config("local")) if here else []
    wanted = [
        tool.name
        for tool in TOOLS.values()
        if tool.name in needed or (not tool.asked and (tests or not tool.for_tests))
    ]
    for name, path in builder.resolve_all(wanted, output.BuildReport()).items():
        output.line(f"[green]ok[/]  {name}: {path}", indent=4)
    if tests:
        for project, path in upstream_schemas.resolve_all().items():
            output.line(f"[green]ok[/]  schemas of {project}: {path}", indent=4)
