"""`forge dead-letters`: what services could not process, over the gateway and with the operator's key."""

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

app = typer.Typer(no_args_is_help=True, help="Events and changes that services could not process and have set aside.")


Service = StrEnum("Service", {name.upper(): name for name in sorted(SERVICES) if SERVICES[name].sets_aside})
"""Services that set things aside."""
_PAGE = 500
_REASON = 100
One = Annotated[Service, typer.Option("--service", help="The service that has set it aside.")]
Number = Annotated[int, typer.Argument(min=1, help="The dead letter's number, as `list` shows it.")]


def found(client: httpx.Client, service: Service) -> Iterator[dict[str, Any]]:
    """All dead letters of a service, the oldest first. Raises LocalError."""
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
    service: Annotated[Service | None, typer.Option("--service", help="Of this service only.")] = None,
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
        output.line(escape(f"not asked: {line}"), indent=4)
    if count:
        raise typer.Exit(2)
    print("There are no dead letters.")


def _line(letter: dict[str, Any]) -> str:
    place = letter["topic"] + (f"/{letter['partition']}/{letter['position']}" if letter["position"] >= 0 else "")
    size = f"{letter['bytes']} bytes, {letter['tries']} tries, since {letter['made']}"
    return f"{letter['number']}: {place}, key {letter['key']}, {size}: {letter['reason'][:_REASON]}"


@app.command()
def show(number: Number, service: One, stack_name: Stack = "local") -> None:
    """Show a dead letter with what it holds."""
    with gateway.connect(stack_name) as client:
        output.console.print_json(data=gateway.ask(client, "GET", _path(service, number)))


@app.command()
def retry(number: Number, service: One, stack_name: Stack = "local") -> None:
    """Process a dead letter again. It is gone if that succeeds; later events of its key were processed before it."""
    with gateway.connect(stack_name) as client:
        gateway.ask(client, "POST", _path(service, number, "retry"))
    print(f"{service}: dead letter {number} is processed")


@app.command()
def drop(
    number: Number,
    service: One,
    stack_name: Stack = "local",
    yes: Yes = False,
) -> None:
    """Drop a dead letter for good."""
    output.confirm(f"What dead letter {number} of {service} holds is lost. Drop it?", yes)
    with gateway.connect(stack_name) as client:
        gateway.ask(client, "DELETE", _path(service, number))
    print(f"{service}: dead letter {number} is dropped")
