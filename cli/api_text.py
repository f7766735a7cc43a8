"""Prints answers of services: as tables and lists, or unchanged with `--output json`."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape

from cli import output
from cli.options import Format

Record = dict[str, Any]


def _as_it_is(found: object, form: Format) -> bool:
    if form is Format.JSON:
        print(json.dumps(found, indent=2))
    return form is Format.JSON


def _cell(value: object) -> str:
    """A value as one line of plain text. Texts of services may contain anything, so they are not used as markup."""
    match value:
        case None | "" | [] | ():
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_cell(one) for one in value)
        case dict():
            return ", ".join(f"{_printable(name)} {_cell(one)}" for name, one in value.items()) or "-"
        case _:
            text = _printable(str(value))
            return text if len(text) <= 60 or " " in text else f"{text[:57]}..."


def _printable(text: str) -> str:
    """The text without control characters, which could move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else " " for c in text)


def record(found: Record, form: Format) -> None:
    """Print one object with one field per line. Keys and other long words are not broken."""
    if _as_it_is(found, form):
        return
    shown = {_printable(name.replace("_", " ")): value for name, value in found.items()}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        text = _printable(value) if isinstance(value, str) and value else _cell(value)
        output.line(f"{escape(f'{name:{width}}')}  {escape(text)}", indent=width + 2)


def _rows(found: list[Record], columns: dict[str, str], form: Format, nothing: str, *right: str) -> None:
    """Print a table. `columns` is the title by field."""
    if _as_it_is(found, form):
        return
    if not found:
        print(nothing)
        return
    view = output.table(*columns.values(), right=frozenset(right))
    for one in found:
        view.add_row(*(escape(_cell(one.get(field))) for field in columns))
    output.console.print(view)


def tenants(found: list[Record], form: Format) -> None:
    """Print tenants with their limits. 0 means no limit."""
    shown = [{**one, **{f: one[f] or None for f in ("requests_per_minute", "tokens_per_minute")}} for one in found]
    columns = {"id": "tenant", "name": "name", "models": "models"}
    columns |= {"requests_per_minute": "requests/min", "tokens_per_minute": "tokens/min", "created": "created"}
    rows = found if form is Format.JSON else shown
    _rows(rows, columns, form, "There are no tenants.", "requests/min", "tokens/min")


def people(found: list[Record], form: Format) -> None:
    """Print people's accounts."""
    columns = {"email": "email", "enabled": "enabled", "second_factor": "second factor", "groups": "groups"}
    _rows(found, columns, form, "There are no accounts.")


def keys(found: list[Record], form: Format) -> None:
    """Print API keys, without the secret values."""
    columns = {"id": "id", "name": "name", "hint": "hint", "scopes": "scopes"}
    columns |= {"expires": "expires", "revoked": "revoked"}
    _rows(found, columns, form, "There are no keys.")


def prices(found: list[Record], form: Format) -> None:
    """Print the price list."""
    columns = {"model": "model", "kind": "kind", "usd": "USD", "per": "per", "tenant": "tenant", "begins": "begins"}
    _rows(found, columns, form, "There are no prices.", "USD", "per")


def usage(found: list[Record], group: str, form: Format) -> None:
    """Print requests and tokens."""
    columns = {group: group, "requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens"}
    _rows(found, columns, form, "There is no usage.", "requests", "input tokens", "output tokens")


def invoice(found: Record, form: Format) -> None:
    """Print an invoice with its lines."""
    if _as_it_is(found, form):
        return
    state = f"number {found['number']}, issued {found['issued']}" if found.get("issued") else "not issued yet"
    output.line(f"Invoice of {escape(_cell(found['tenant']))} for {found['period']}, {state}")
    lines = found["lines"]
    if lines:
        columns = {field: field.replace("_", " ") for field in lines[0]}
        _rows(lines, columns, form, "")
    total = f"{found['total_cents'] / 100:.2f}"
    output.line(f"gross {found['gross_usd']}, credit {found['credit_usd']}, to pay {total} {found['currency']}")
    if missing := found.get("unpriced"):
        output.line(f"[red]no price for[/]: {escape(_cell(missing))}", indent=2)
