"""`forge env`: shows how programs access the environment."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli import documents, output
from cli.options import Format, Output, Stack
from local.errors import LocalError


class Client(StrEnum):
    """Client that example code is printed for."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    CURL = "curl"


def run(
    stack_name: Stack = "local",
    export: Annotated[bool, typer.Option("--export", help='Print shell variables: eval "$(forge env --export)".')] = (
        False
    ),
    client: Annotated[
        Client | None, typer.Option("--client", help="Print example code: openai or anthropic (Python), or curl.")
    ] = None,
    output_format: Output = Format.TEXT,
) -> None:
    """Show URL, installation key and CA certificate file; or print shell variables or example code."""
    from cli import access

    if export + (client is not None) + (output_format is Format.JSON) > 1:
        raise LocalError("--export, --client and --output json exclude each other", fix="choose one of them")
    found = access.of(stack_name)
    if output_format is Format.JSON:
        output.document(
            documents.Environment(
                stack=stack_name,
                url=found.url,
                key=found.key,
                key_file=str(found.key_file),
                authority_file=str(found.authority_file),
            )
        )
    elif export:
        print(access.exports(found), end="")
    elif client is not None:
        print(
            {Client.OPENAI: access.openai, Client.ANTHROPIC: access.anthropic}.get(client, access.curl)(found), end=""
        )
    else:
        for label, value in (
            ("URL", found.url),
            ("key", found.key),
            ("key file", found.key_file),
            ("CA file", found.authority_file),
            ("model", found.model),
        ):
            print(f"{label:9} {value}")
