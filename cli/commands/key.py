"""`forge key`: what programs identify themselves with."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import api_text, gateway, output
from cli.options import Format, Output, Stack, Tenant, Yes

app = typer.Typer(no_args_is_help=True, help="API keys of tenants.")


@app.command(name="list")
def show_all(tenant: Tenant, stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """List a tenant's keys, the newest first."""
    with gateway.connect(stack_name) as client:
        api_text.keys(gateway.ask(client, "GET", gateway.path("tenants", tenant, "keys")), output_format)


@app.command()
def create(
    tenant: Tenant,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it is good for; may be repeated. Default: all but admin and impersonate."),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends, with its zone: 2027-01-31T00:00:00Z.")] = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Make an API key. It is shown now and never again."""
    body: dict[str, Any] = {"name": name, **({"scopes": scopes} if scopes else {})}
    body |= {"expires": expires} if expires else {}
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "POST", gateway.path("tenants", tenant, "keys"), json=body), output_format)


@app.command()
def revoke(
    tenant: Tenant,
    key: Annotated[str, typer.Argument(help="The key's id, as `list` shows it.")],
    keep_made: Annotated[bool, typer.Option("--keep-made", help="Keys that were made with it stay valid.")] = False,
    stack_name: Stack = "local",
    yes: Yes = False,
) -> None:
    """Revoke a key, and those made with it, everywhere within a second."""
    output.confirm(f"Revoke key {key} of {tenant}? Programs that use it are refused from then on.", yes)
    with gateway.connect(stack_name) as client:
        query = {"made": "keep"} if keep_made else {}
        gateway.ask(client, "DELETE", gateway.path("tenants", tenant, "keys", key), params=query)
    output.line(f"key {key} of {tenant} is revoked")
