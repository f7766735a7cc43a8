"""The `forge` application, with all commands of cli/commands."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import typer

from cli import output, place
from cli.commands import (
    alerts,
    dead_letters,
    destroy,
    doctor,
    down,
    drift,
    env,
    explain,
    footprint,
    images,
    init,
    key,
    kubectl,
    login,
    logs,
    person,
    policy,
    preview,
    promote,
    prove,
    pulumi,
    release,
    repartition,
    reset,
    restore,
    rotate,
    runbook,
    secret_store,
    status,
    tenant,
    tools,
    up,
    upgrade_check,
    usage,
    verify,
)
from local import paths
from local.errors import LocalError

COMMANDS: dict[str, Callable[..., None]] = {
    "doctor": doctor.run,
    "tools": tools.run,
    "init": init.run,
    "up": up.run,
    "preview": preview.run,
    "upgrade-check": upgrade_check.run,
    "drift": drift.run,
    "prove": prove.run,
    "promote": promote.run,
    "repartition": repartition.run,
    "destroy": destroy.run,
    "status": status.run,
    "footprint": footprint.run,
    "alerts": alerts.run,
    "runbook": runbook.run,
    "logs": logs.run,
    "explain": explain.run,
    "env": env.run,
    "login": login.run,
    "logout": login.out,
    "restore": restore.run,
    "rotate": rotate.run,
    "images": images.run,
    "verify": verify.run,
    "release": release.run,
    "down": down.run,
    "reset": reset.run,
}
GROUPS = {
    "dead-letters": dead_letters.app,
    "key": key.app,
    "person": person.app,
    "policy": policy.app,
    "secret-store": secret_store.app,
    "tenant": tenant.app,
    "usage": usage.app,
}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        print(f"forge {metadata.version('cogniforge')}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """CogniForge: an AI platform from one config file."""
    place.refuse_another_checkout()


for _name, _run in COMMANDS.items():
    app.command(name=_name)(_run)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)
app.command(name="kubectl", context_settings=kubectl.SETTINGS)(kubectl.run)
app.command(name="pulumi", context_settings=pulumi.SETTINGS)(pulumi.run)


def guarded(run: Callable[[], Any]) -> None:
    """Run a command. Errors that the user can correct are shown without a traceback."""
    try:
        run()
    except LocalError as error:
        output.show_error(error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        output.errors.print("\ninterrupted: nothing is lost; run the same command again to continue")
        raise SystemExit(130) from None
    except Exception as error:  # a bug: store the details for a report, show one line
        log = paths.state() / "crash.log"
        paths.write_private(log, traceback.format_exc())
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        fix = f"run the same command again; if it happens again, report it with {log}"
        output.show_error(LocalError("forge failed with an unexpected error", reason=reason, fix=fix))
        raise SystemExit(1) from None


def main() -> None:
    """Entry point."""
    guarded(_readable)
    guarded(app)


def _readable() -> None:
    """Raise LocalError for an argument that is not text: no service and no file could take it."""
    for number, argument in enumerate(sys.argv[1:], 1):
        if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
            shown = os.fsencode(argument).decode(errors="replace")
            raise LocalError(f"argument {number} is not valid UTF-8", reason=f"forge reads it as {shown}")
