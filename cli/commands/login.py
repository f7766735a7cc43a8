"""`forge login` and `forge logout`: a person's own rights in place of the operator's key."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Stack


def run(
    tenant: Annotated[
        str, typer.Argument(help="ID of the tenant. Needed at the first login, and by people of several tenants.")
    ] = "",
    stack_name: Stack = "local",
) -> None:
    """Log in with Keycloak. Commands for tenants then use your own rights, not the operator's key."""
    from cli import gateway, login

    def show(address: str, code: str) -> None:
        output.line(f"open {address}")
        output.line(f"and compare the code: {code}")

    with gateway.root(stack_name) as client:
        session = login.log_in(client, stack_name, tenant, show)
    output.line(f"you are logged in to {session.tenant}")


def out(stack_name: Stack = "local") -> None:
    """End your session everywhere. Commands use the operator's key again."""
    from cli import gateway, login

    with gateway.root(stack_name) as client:
        ended = login.log_out(client, stack_name)
    output.line("you are logged out" if ended else "nobody was logged in")
