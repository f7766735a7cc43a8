"""`forge dead-letters`: shows, retries and drops dead letters, through the gateway with the installation key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import typer
from rich.markup import escape

from cli import gateway, output
from cli.options import Stack, Yes
from components.services.registry import SERVICES
from local.errors import LocalError

app = typer.Typer(no_args_is_help=True, help="Dead letters: events, files and tasks that a service could not process.")


def services(stack_name: str) -> list[str]:
    """Services of an environment that keep dead letters, the user's own ones among them. Raises LocalError."""
    from cli import stack

    return sorted(name for name, record in stack.read_config(stack_name).around.records.items() if record.sets_aside)


def _begun(context: typer.Context, incomplete: str) -> list[str]:
    """Services for shell completion."""
    try:
        known = services(str(context.params.get("stack_name") or "local"))
    except LocalError:
        known = sorted(name for name, record in SERVICES.items() if record.sets_aside)
    return [name for name in known if name.startswith(incomplete)]


def _known(service: str, stack_name: str) -> str:
    """The service. Raises LocalError if the environment has no such service with dead letters."""
    if service not in (known := services(stack_name)):
        fix = f"use one of: {', '.join(known)}"
        raise LocalError(f'{stack_name} has no service "{service}" that keeps dead letters', fix=fix)
    return service


_PAGE = 500
_REASON = 100
One = Annotated[str, typer.Option("--service", help="Service that keeps the dead letter.", autocompletion=_begun)]
Number = Annotated[int, typer.Argument(min=1, help="Number of the dead letter, from `list`.")]


def found(client: httpx.Client, service: str) -> Iterator[dict[str, Any]]:
    """All dead letters of a service, oldest first. Raises LocalError."""
    after: int | None = 0
    while after is not None:
        page = gateway.ask(client, "GET", _path(service), params={"after": after, "limit": _PAGE})
        yield from page["dead_letters"]
        after = page["next"]


def _path(service: str, number: int | None = None, action: str = "") -> str:
    one = f"/{number}" if number is not None else ""
    return f"{service}/dead-letters{one}{f'/{action}' if action else ''}"


@app.command(name="list")
def show_all(
    service: Annotated[
        str | None,
        typer.Option("--service", help="Show dead letters of this service only.", autocompletion=_begun),
    ] = None,
    stack_name: Stack = "local",
) -> None:
    """List dead letters. Exit status 2 if there are any."""
    count = 0
    skipped: list[str] = []
    asked = [_known(service, stack_name)] if service else services(stack_name)
    with gateway.connect(stack_name) as client:
        for one in asked:
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
    path = _path(_known(service, stack_name), number)
    with gateway.connect(stack_name) as client:
        output.console.print_json(data=gateway.ask(client, "GET", path))


@app.command()
def retry(number: Number, service: One, stack_name: Stack = "local") -> None:
    """Process a dead letter again, and delete it on success. Later events of its key have been processed already."""
    path = _path(_known(service, stack_name), number, "retry")
    with gateway.connect(stack_name) as client:
        gateway.ask(client, "POST", path)
    print(f"{service}: dead letter {number} was processed")


@app.command()
def drop(
    number: Number,
    service: One,
    stack_name: Stack = "local",
    yes: Yes = False,
) -> None:
    """Delete a dead letter with its content."""
    path = _path(_known(service, stack_name), number)
    output.confirm(f"Drop dead letter {number} of {service}? Its content is lost.", yes)
    with gateway.connect(stack_name) as client:
        gateway.ask(client, "DELETE", path)
    print(f"{service}: dead letter {number} was dropped")
