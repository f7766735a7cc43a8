"""`forge explain`: shows what happened to one request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(
    request: Annotated[str, typer.Argument(help="ID of the request: the header x-request-id of its answer.")],
    log_key: Annotated[
        Path | None,
        typer.Option(help="File with a trusted public key of the audit log. Default: the key that Audit reports."),
    ] = None,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Show a request's key, target, attempts, verdicts, price and audit entries. Exit status 1 if one is not proven."""
    from cli import explain, explain_text, gateway, spans, stack
    from local.errors import LocalError

    try:
        trusted = log_key.read_text() if log_key is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(
            f"{log_key} cannot be read", reason=str(error), fix="name a file of `GET /v1/audit/key`"
        ) from None
    with gateway.connect(stack_name) as client:
        found = explain.collect(client, stack_name, request, trusted)
    spans.add(found, stack.read_config(stack_name))
    if output_format is Format.JSON:
        output.document(found)
    else:
        explain_text.show(found)
    if any(not leaf.verified for one in found.requests for leaf in one.audit):
        raise typer.Exit(1)
