"""`forge policy`: tests the gateway's policies, and explains their decision about a request."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Stack

app = typer.Typer(no_args_is_help=True, help="Policies of the gateway: test them, explain a decision.")


@app.command()
def test(stack_name: Stack = "local") -> None:
    """Run the tests of the policies, and refuse rules that lock out operators. Needs no cluster."""
    from cli import policy

    print(policy.test(stack_name))


@app.command()
def explain(
    request: Annotated[str, typer.Argument(help='Method and path, such as "GET /v1/tenants".')],
    scope: Annotated[list[str] | None, typer.Option(help="A scope of the key; may be repeated.")] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="The request has no key.")] = False,
    tenant: Annotated[str, typer.Option(help="The tenant of the key.")] = "default",
    model: Annotated[str, typer.Option(help="The model that the body names.")] = "",
    at: Annotated[str, typer.Option(help="Time of the request in ISO 8601; default: now.")] = "",
    break_glass: Annotated[str, typer.Option(help="The reason in the header x-break-glass.")] = "",
    stack_name: Stack = "local",
) -> None:
    """Show how the gateway would decide about a request, and why. Needs no cluster. Exit status 1 if it is refused."""
    from cli import policy

    when = policy.moment(at) if at else None
    asked = policy.question(
        request, scope or [], key=not no_key, tenant=tenant, model=model, at=when, break_glass=break_glass
    )
    found = policy.explain(stack_name, asked)
    allowed = bool(found["allowed"])
    if not allowed:
        output.line(f"[red]refused[/] by the rule {found['rule']}")
        print(f"status {found['status']}: {policy.message(found)}")
        raise typer.Exit(1)
    broken = f", since the glass is broken for the rule {found['overridden']}" if "overridden" in found else ""
    output.line(f"[green]allowed[/]{broken}")
