"""`forge tenant`: manages tenants and their limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import api_text, gateway, output
from cli.options import Format, Output, Stack, Tenant, Yes
from local.errors import LocalError

app = typer.Typer(no_args_is_help=True, help="Tenants and their limits.")
Name = Annotated[str | None, typer.Option("--name", help="Display name of the tenant.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Model that the tenant may use; may be repeated.")]
Requests = Annotated[int | None, typer.Option(min=0, help="Most requests per minute; 0 means no limit.")]
Tokens = Annotated[int | None, typer.Option(min=0, help="Most tokens per minute; 0 means no limit.")]


def _limits(
    name: str | None, models: list[str] | None, requests_per_minute: int | None, tokens_per_minute: int | None
) -> dict[str, Any]:
    """The limits that were given as options."""
    given = {
        "name": name,
        "models": models or None,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
    }
    return {field: value for field, value in given.items() if value is not None}


@app.command(name="list")
def show_all(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """List all tenants."""
    with gateway.connect(stack_name) as client:
        api_text.tenants(gateway.ask(client, "GET", "tenants"), output_format)


@app.command()
def show(tenant: Tenant, stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show a tenant's limits."""
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "GET", gateway.path("tenants", tenant)), output_format)


@app.command()
def create(
    tenant: Tenant,
    name: Name = None,
    models: Models = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Create a tenant. Without limits, it may use all models at any rate."""
    body = {"id": tenant, **_limits(name, models, requests_per_minute, tokens_per_minute)}
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "POST", "tenants", json=body), output_format)


@app.command()
def update(
    tenant: Tenant,
    name: Name = None,
    models: Models = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="Allow all models.")] = False,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Change a tenant's limits. Limits that are not given stay."""
    change = _limits(name, models, requests_per_minute, tokens_per_minute)
    change |= {"models": []} if all_models else {}
    if not change:
        raise LocalError("there is nothing to change", fix="add an option, such as --requests-per-minute 600")
    where = gateway.path("tenants", tenant)
    with gateway.connect(stack_name) as client:
        before = gateway.ask(client, "GET", where)
        kept = {field: value for field, value in before.items() if field not in ("id", "created")}
        api_text.record(gateway.ask(client, "PUT", where, json={**kept, **change}), output_format)


@app.command()
def policy(
    tenant: Tenant,
    file: Annotated[Path | None, typer.Option("--set", help="JSON or YAML file with a new guard policy.")] = None,
    stack_name: Stack = "local",
) -> None:
    """Show a tenant's guard policy as JSON, or replace it."""
    import yaml

    body: dict[str, Any] | None = None
    if file is not None:
        try:
            body = {"policy": yaml.safe_load(file.read_text())}
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            raise LocalError(f"{file} cannot be read as JSON or YAML", reason=str(error)) from None
    where = gateway.path("tenants", tenant, "policy")
    with gateway.connect(stack_name) as client:
        found = gateway.ask(client, "PUT" if body else "GET", where, **({"json": body} if body else {}))
    print(json.dumps(found, indent=2))


@app.command()
def delete(tenant: Tenant, stack_name: Stack = "local", yes: Yes = False) -> None:
    """Delete a tenant with all its data. Its ID cannot be used again."""
    output.confirm(f"Delete {tenant} with its users, keys, prompts, documents and policies?", yes)
    with gateway.connect(stack_name) as client:
        gateway.ask(client, "DELETE", gateway.path("tenants", tenant))
    output.line(f"{tenant} was deleted; `forge tenant deletion {tenant}` shows which services have erased its data")


@app.command()
def deletion(tenant: Tenant, stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show which services have erased a deleted tenant's data."""
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "GET", gateway.path("tenants", tenant, "deletion")), output_format)
