"""`forge usage`: shows usage and invoices, and manages budgets, credits and prices."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum, auto
from typing import Annotated, Any

import typer

from cli import api_text, gateway, output
from cli.options import Format, Output, Stack, Tenant
from components.services.registry import USAGE

_TENANTS = f"{USAGE.name}/tenants"
app = typer.Typer(no_args_is_help=True, help="Usage, invoices, budgets, credits and prices.")


class Group(StrEnum):
    """Field that usage is grouped by."""

    TENANT = auto()
    MODEL = auto()
    USER = auto()
    DAY = auto()


def _month(now: datetime) -> str:
    return now.strftime("%Y-%m")


@app.command()
def show(
    tenant: Annotated[str | None, typer.Argument(help="ID of the tenant; default: all tenants.")] = None,
    by: Annotated[
        Group | None, typer.Option("--by", help="Grouping. Default: model, or tenant if all tenants are shown.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option(help="Beginning, such as 2026-11-01T00:00:00Z. Default: the first day of the month.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="End. Default: now.")] = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Show the number of requests and tokens."""
    now = datetime.now(UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    group = by or (Group.MODEL if tenant else Group.TENANT)
    query = {"group": group.value, "begin": begin or first.isoformat(), "end": end or now.isoformat()}
    query |= {"tenant": tenant} if tenant else {}
    asked = {"requests": ("COUNT", "input_tokens"), "input_tokens": ("SUM", "input_tokens")}
    asked |= {"output_tokens": ("SUM", "output_tokens")}
    rows: dict[str, dict[str, Any]] = {}
    with gateway.connect(stack_name) as client:
        for column, (aggregation, field) in asked.items():
            params = {**query, "aggregation": aggregation, "field": field}
            for value in gateway.ask(client, "GET", f"{USAGE.name}/meters", params=params)["values"]:
                row = rows.setdefault(str(value["group"]), {group.value: value["group"], **dict.fromkeys(asked, 0)})
                row[column] = round(value["value"] or 0)
    api_text.usage(list(rows.values()), group.value, output_format)


@app.command()
def left(tenant: Tenant, stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show how much of a tenant's budget is left in this month."""
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "GET", gateway.path(_TENANTS, tenant, "entitlement")), output_format)


@app.command()
def budget(
    tenant: Tenant,
    usd: Annotated[str, typer.Argument(help="Budget per month in USD.")],
    stack_name: Stack = "local",
) -> None:
    """Set a tenant's monthly budget. Requests beyond it are refused with HTTP status 429."""
    with gateway.connect(stack_name) as client:
        found = gateway.ask(client, "PUT", gateway.path(_TENANTS, tenant, "budget"), json={"usd": usd})
    output.line(f"{tenant} has a budget of {found['usd']} USD per month")


@app.command()
def credit(
    tenant: Tenant,
    name: Annotated[str, typer.Argument(help="Name of the credit. It must be new.")],
    usd: Annotated[str, typer.Argument(help="Amount in USD that the invoice is reduced by.")],
    period: Annotated[str | None, typer.Option(help="Month, such as 2026-11; default: the current month.")] = None,
    stack_name: Stack = "local",
) -> None:
    """Grant a tenant a credit for a month."""
    body = {"id": name, "usd": usd, "period": period or _month(datetime.now(UTC))}
    with gateway.connect(stack_name) as client:
        found = gateway.ask(client, "POST", gateway.path(_TENANTS, tenant, "credits"), json=body)
    output.line(f"{tenant} has a credit of {found['usd']} USD for {found['period']}")


@app.command()
def invoice(
    tenant: Tenant,
    period: Annotated[str | None, typer.Argument(help="Month, such as 2026-11; default: the current month.")] = None,
    issue: Annotated[bool, typer.Option("--issue", help="Issue the invoice. It can never change after that.")] = False,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Show a tenant's invoice for a month, issued or preliminary."""
    where = gateway.path(_TENANTS, tenant, "invoices", period or _month(datetime.now(UTC)))
    with gateway.connect(stack_name) as client:
        api_text.invoice(gateway.ask(client, "POST" if issue else "GET", where), output_format)


@app.command()
def prices(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """List all prices."""
    with gateway.connect(stack_name) as client:
        api_text.prices(gateway.ask(client, "GET", f"{USAGE.name}/prices"), output_format)


@app.command()
def price(
    model: Annotated[str, typer.Argument(help="Name of the model; * means any model.")],
    kind: Annotated[str, typer.Argument(help="Unit that is priced: input (tokens), output (tokens) or request.")],
    usd: Annotated[str, typer.Argument(help="Price in USD for --per units.")],
    per: Annotated[int, typer.Option(min=1, help="Number of units that the price is for.")] = 1_000_000,
    tenant: Annotated[str, typer.Option(help="Tenant that the price is for; default: all tenants.")] = "",
    begins: Annotated[str | None, typer.Option(help="Time from which the price holds; default: now.")] = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Set a price from a time on. Existing prices never change; the new price succeeds them."""
    body = {"tenant": tenant, "model": model, "kind": kind, "usd": usd, "per": per}
    body |= {"begins": begins or datetime.now(UTC).isoformat()}
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "POST", f"{USAGE.name}/prices", json=body), output_format)
