"""`forge key`: manages API keys of tenants."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import api_text, gateway, output
from cli.options import Format, Output, Stack, Tenant, Yes

app = typer.Typer(no_args_is_help=True, help="API keys of tenants.")


@app.command(name="list")
def show_all(tenant: Tenant, stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """List a tenant's keys, newest first."""
    with gateway.connect(stack_name) as client:
        api_text.keys(gateway.ask(client, "GET", gateway.path("tenants", tenant, "keys")), output_format)


@app.command()
def create(
    tenant: Tenant,
    name: Annotated[str, typer.Argument(help="Name that says what the key is for.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Scope of the key; may be repeated. Default: all except admin and impersonate."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="Time of expiry with its time zone, such as 2027-01-31T00:00:00Z.")
    ] = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Create an API key. It is shown only this once."""
    body: dict[str, Any] = {"name": name, **({"scopes": scopes} if scopes else {})}
    body |= {"expires": expires} if expires else {}
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "POST", gateway.path("tenants", tenant, "keys"), json=body), output_format)


@app.command()
def revoke(
    tenant: Tenant,
    key: Annotated[str, typer.Argument(help="ID of the key, from `list`.")],
    keep_made: Annotated[
        bool, typer.Option("--keep-made", help="Keep keys valid that were created with this key.")
    ] = False,
    stack_name: Stack = "local",
    yes: Yes = False,
) -> None:
    """Revoke a key, and the keys that were created with it. Takes effect everywhere within a second."""
    output.confirm(f"Revoke key {key} of {tenant}? Requests with it are refused from now on.", yes)
    with gateway.connect(stack_name) as client:
        query = {"made": "keep"} if keep_made else {}
        gateway.ask(client, "DELETE", gateway.path("tenants", tenant, "keys", key), params=query)
    output.line(f"key {key} of {tenant} is revoked")
