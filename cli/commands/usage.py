"""`forge usage`: what was used, what it costs, and how much may be used."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import api_text, gateway, output
from cli.options import Format, Output, Stack, Tenant

_TENANTS = "billing/tenants"
app = typer.Typer(no_args_is_help=True, help="What tenants use, what it costs, and how much they may use.")


class Group(StrEnum):
    """By what usage is added up."""

    TENANT = "tenant"
    MODEL = "model"
    USER = "user"
    DAY = "day"


def _month(now: datetime) -> str:
    return now.strftime("%Y-%m")


@app.command()
def show(
    tenant: Annotated[str | None, typer.Argument(help="The tenant's id; none: all tenants.")] = None,
    by: Annotated[Group | None, typer.Option("--by", help="Default: model, or tenant where all are shown.")] = None,
    begin: Annotated[str | None, typer.Option(help="Default: the month's first day. 2026-11-01T00:00:00Z.")] = None,
    end: Annotated[str | None, typer.Option(help="Default: now.")] = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Show requests and tokens."""
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
            for value in gateway.ask(client, "GET", "billing/meters", params=params)["values"]:
                row = rows.setdefault(str(value["group"]), {group.value: value["group"], **dict.fromkeys(asked, 0)})
                row[column] = round(value["value"] or 0)
    api_text.usage(list(rows.values()), group.value, output_format)


@app.command()
def left(tenant: Tenant, stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show how much of its budget a tenant has left this month."""
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "GET", gateway.path(_TENANTS, tenant, "entitlement")), output_format)


@app.command()
def budget(
    tenant: Tenant,
    usd: Annotated[str, typer.Argument(help="The most that it may use in a month, in USD.")],
    stack_name: Stack = "local",
) -> None:
    """Limit a tenant's month. Requests beyond it are refused with 429."""
    with gateway.connect(stack_name) as client:
        found = gateway.ask(client, "PUT", gateway.path(_TENANTS, tenant, "budget"), json={"usd": usd})
    output.line(f"{tenant} may use {found['usd']} USD a month")


@app.command()
def credit(
    tenant: Tenant,
    name: Annotated[str, typer.Argument(help="Its name; a second one of the same name is refused.")],
    usd: Annotated[str, typer.Argument(help="What need not be paid, in USD.")],
    period: Annotated[str | None, typer.Option(help="The month, such as 2026-11; default: this one.")] = None,
    stack_name: Stack = "local",
) -> None:
    """Grant a credit for a month."""
    body = {"id": name, "usd": usd, "period": period or _month(datetime.now(UTC))}
    with gateway.connect(stack_name) as client:
        found = gateway.ask(client, "POST", gateway.path(_TENANTS, tenant, "credits"), json=body)
    output.line(f"{tenant} has a credit of {found['usd']} USD for {found['period']}")


@app.command()
def invoice(
    tenant: Tenant,
    period: Annotated[str | None, typer.Argument(help="The month, such as 2026-11; default: this one.")] = None,
    issue: Annotated[bool, typer.Option("--issue", help="Issue it; it never changes then.")] = False,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Show a month's invoice, issued or as it stands."""
    where = gateway.path(_TENANTS, tenant, "invoices", period or _month(datetime.now(UTC)))
    with gateway.connect(stack_name) as client:
        api_text.invoice(gateway.ask(client, "POST" if issue else "GET", where), output_format)


@app.command()
def prices(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """List the prices."""
    with gateway.connect(stack_name) as client:
        api_text.prices(gateway.ask(client, "GET", "billing/prices"), output_format)


@app.command()
def price(
    model: Annotated[str, typer.Argument(help="The model; *: any.")],
    kind: Annotated[str, typer.Argument(help="input, output or request.")],
    usd: Annotated[str, typer.Argument(help="USD for as many as --per says.")],
    per: Annotated[int, typer.Option(min=1, help="Tokens, or requests.")] = 1_000_000,
    tenant: Annotated[str, typer.Option(help="For this tenant only.")] = "",
    begins: Annotated[str | None, typer.Option(help="From then on; default: now.")] = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Set a price from a time on. A price never changes: another one begins."""
    body = {"tenant": tenant, "model": model, "kind": kind, "usd": usd, "per": per}
    body |= {"begins": begins or datetime.now(UTC).isoformat()}
    with gateway.connect(stack_name) as client:
        api_text.record(gateway.ask(client, "POST", "billing/prices", json=body), output_format)
