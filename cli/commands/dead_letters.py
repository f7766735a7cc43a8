"""`forge dead-letters`: shows, retries and drops dead letters, through the gateway with the installation key."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import httpx
import typer
from rich.markup import escape

from cli import gateway, output
from cli.options import Stack, Yes
from components.services.registry import SERVICES
from local.errors import LocalError

app = typer.Typer(no_args_is_help=True, help="Dead letters: events, files and tasks that a service could not process.")


Service = StrEnum("Service", {name.upper(): name for name in sorted(SERVICES) if SERVICES[name].sets_aside})
"""Services that keep dead letters."""
_PAGE = 500
_REASON = 100
One = Annotated[Service, typer.Option("--service", help="Service that keeps the dead letter.")]
Number = Annotated[int, typer.Argument(min=1, help="Number of the dead letter, from `list`.")]


def found(client: httpx.Client, service: Service) -> Iterator[dict[str, Any]]:
    """All dead letters of a service, oldest first. Raises LocalError."""
    after: int | None = 0
    while after is not None:
        page = gateway.ask(client, "GET", _path(service), params={"after": after, "limit": _PAGE})
        yield from page["dead_letters"]
        after = page["next"]


def _path(service: Service, number: int | None = None, action: str = "") -> str:
    one = f"/{number}" if number is not None else ""
    return f"{service}/dead-letters{one}{f'/{action}' if action else ''}"


@app.command(name="list")
def show_all(
    service: Annotated[
        Service | None, typer.Option("--service", help="Show dead letters of this service only.")
    ] = None,
    stack_name: Stack = "local",
) -> None:
    """List dead letters. Exit status 2 if there are any."""
    count = 0
    skipped: list[str] = []
    with gateway.connect(stack_name) as client:
        for one in [service] if service else list(Service):
            try:
                for letter in found(client, one):
                    count += 1
                    output.line(escape(f"{one} {_line(letter)}"), indent=4)
            except LocalError as error:
                if service:
                    raise
                skipped.append(f"{one}: {error.problem}; {error.reason}")
    for line in skipped:
        output.line(escape(f"not available: {line}"), indent=4)
    if count:
        raise typer.Exit(2)
    print("There are no dead letters.")


def _line(letter: dict[str, Any]) -> str:
    place = letter["topic"] + (f"/{letter['partition']}/{letter['position']}" if letter["position"] >= 0 else "")
    size = f"{letter['bytes']} bytes, {letter['tries']} tries, since {letter['made']}"
    return f"{letter['number']}: {place}, key {letter['key']}, {size}: {letter['reason'][:_REASON]}"


@app.command()
def show(number: Number, service: One, stack_name: Stack = "local") -> None:
    """Show a dead letter with its content."""
    with gateway.connect(stack_name) as client:
        output.console.print_json(data=gateway.ask(client, "GET", _path(service, number)))


@app.command()
def retry(number: Number, service: One, stack_name: Stack = "local") -> None:
    """Process a dead letter again, and delete it on success. Later events of its key have been processed already."""
    with gateway.connect(stack_name) as client:
        gateway.ask(client, "POST", _path(service, number, "retry"))
    print(f"{service}: dead letter {number} was processed")


@app.command()
def drop(
    number: Number,
    service: One,
    stack_name: Stack = "local",
    yes: Yes = False,
) -> None:
    """Delete a dead letter with its content."""
    output.confirm(f"Drop dead letter {number} of {service}? Its content is lost.", yes)
    with gateway.connect(stack_name) as client:
        gateway.ask(client, "DELETE", _path(service, number))
    print(f"{service}: dead letter {number} was dropped")
