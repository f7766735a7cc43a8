"""The Pulumi stack of an environment, operated with the same `pulumi` command that users have."""

from __future__ import annotations

import json
import time
from typing import Any

import yaml

from cli import engine
from components.config import names
from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.config.problems import ConfigError
from local import paths
from local.errors import LocalError
from local.toolchain import leftovers, shim

TURN_S = 90.0
"""Longest wait in seconds for an engine that is stopping: it completes its running calls first."""


def config_file(stack: str) -> Any:
    """Path of the stack file."""
    return paths.PROJECT / "stacks" / f"Pulumi.{stack}.yaml"


def read_config(stack: str) -> PlatformConfig:
    """The stack's validated configuration. Raises LocalError with all problems."""
    try:
        names.check(stack)
    except ConfigError as error:
        raise LocalError(f'"{stack}" is not a valid name for an environment', reason=error.problems[0].limit) from None
    file = config_file(stack)
    try:
        content = yaml.safe_load(file.read_text())
        data = content["config"]["cogniforge:platform"]
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem.removeprefix("Pulumi.") for p in file.parent.glob("Pulumi.*.yaml")))
        fix = f"use one of: {known}" if known else f"run `forge init {stack}`, which writes one here"
        raise LocalError(f"there is no stack file {file.name}", fix=fix) from None
    except yaml.YAMLError as error:
        raise LocalError(f"{file.name} is not YAML", reason=str(error), fix="correct the line named above") from None
    except (KeyError, TypeError):
        raise LocalError(
            f"{file.name} has no platform configuration",
            reason="`config:` must hold `cogniforge:platform:`",
            fix="compare it with a file that `forge init` writes",
        ) from None
    try:
        return parse(data)
    except ConfigError as error:
        raise LocalError(f"{file.name}: {error}", fix="correct the fields named above") from None


capture = engine.capture


def exists(stack: str) -> bool:
    """Whether the stack exists in the Pulumi backend."""
    listing = capture("stack", "ls", "--json")
    if listing.returncode != 0:
        raise LocalError("the Pulumi back end cannot be read", reason=listing.stderr)
    return any(s["name"] == stack for s in json.loads(listing.stdout or "[]"))


def ensure(stack: str) -> None:
    """Create the stack if it does not exist, and repair files that a killed engine left incomplete."""
    shim.ensure_backend()
    if folder := shim.state_folder():
        leftovers.clear(folder)
    if not exists(stack):
        result = capture("stack", "init", stack, "--no-select", "--non-interactive")
        if result.returncode != 0:
            raise LocalError(f"the stack {stack} could not be created", reason=result.stderr)


def resources(stack: str) -> list[dict[str, Any]]:
    """Resources in the state of a stack; empty if it was never deployed or is destroyed."""
    if not exists(stack):
        return []
    result = capture("stack", "export", "--stack", stack)
    if result.returncode != 0:
        raise LocalError(f"the state of {stack} cannot be read", reason=result.stderr)
    found = json.loads(result.stdout).get("deployment", {}).get("resources") or []
    return [resource for resource in found if resource["type"] != "pulumi:pulumi:Stack"]


def require_deployed(stack: str) -> None:
    """Raise LocalError if nothing is deployed."""
    shim.ensure_backend()
    if not resources(stack):
        raise LocalError(f"{stack} is not deployed", fix=f"run `forge up -s {stack}` first")


def await_turn(stack: str) -> None:
    """Wait until no other engine operates on the stack, such as one that is stopping. Raises LocalError on timeout."""
    folder, deadline = shim.state_folder(), time.monotonic() + TURN_S
    while folder and (held := [lock for lock in leftovers.clear(folder) if lock.stack == stack]):
        if time.monotonic() > deadline:
            raise LocalError(
                f"another command is updating {stack}",
                reason=f"process {held[0].pid} on {held[0].host} holds its lock",
                fix="wait until it has ended, then run the same command again",
            )
        time.sleep(0.5)


def run(stack: str, operation: str, *flags: str, quiet: bool = False) -> None:
    """Run up, refresh or destroy, showing Pulumi's own output. Raises LocalError when it fails."""
    flags = ("--suppress-permalink=true", *flags)
    from cli import recovery  # a late import: loading the Kubernetes client takes longer than most commands

    await_turn(stack)
    with recovery.settled(stack):
        _change(stack, operation, *flags, "--yes", quiet=quiet)


def _change(stack: str, operation: str, *flags: str, quiet: bool) -> None:
    arguments = [operation, "--stack", stack, "--non-interactive", *flags]
    if quiet:
        result = capture(*arguments)
        status, reason = result.returncode, _diagnostics(result.stdout + result.stderr)
    else:
        status, reason = engine.show(*arguments), "see Pulumi's messages above"
    if status != 0:
        raise LocalError(
            f"pulumi {operation} failed",
            reason=reason,
            fix="remove the cause and run the same command again to continue",
        )


def _diagnostics(text: str) -> str:
    """Pulumi's diagnostics, without progress lines and notes on plugins."""
    lines = text.split("Diagnostics:", 1)[-1].splitlines()
    kept = [line for line in lines if line.strip() and "warning: using pulumi-" not in line]
    end = next((i for i, line in enumerate(kept) if line.startswith(("Outputs:", "Resources:"))), len(kept))
    return "\n       ".join(kept[:end])


def protected(deployment: dict[str, Any]) -> list[str]:
    """Protected resources of an exported stack, as "Kind name"."""
    resources = deployment.get("deployment", {}).get("resources") or []
    kept = [resource["urn"] for resource in resources if resource.get("protect")]
    parts = [(urn.split("::")[2].split("$")[-1], urn.split("::")[3]) for urn in kept]
    return sorted(f"{token.rsplit(':', 1)[-1]} {name}" for token, name in parts)


def refuse_protected(stack: str) -> None:
    """Raise LocalError with the list of protected resources, if there are any: a destroy would stop half-way."""
    result = capture("stack", "export", "--stack", stack)
    if result.returncode != 0:
        raise LocalError(f"the state of {stack} cannot be read", reason=result.stderr)
    if kept := protected(json.loads(result.stdout)):
        raise LocalError(
            f"{stack} holds data that is protected; nothing was deleted",
            reason="\n     ".join(kept),
            fix="if the data may go: set data.destroyData to true, run `forge up`, then destroy again",
        )


def running(stack: str) -> dict[str, Any]:
    """Outputs of a running environment. Raises LocalError if it is not running."""
    found = outputs(stack)
    if not found.get("url"):
        raise LocalError(f"{stack} is not up", fix=f"run `forge up -s {stack}`")
    return found


def outputs(stack: str) -> dict[str, Any]:
    """Outputs of the stack, including secrets; empty before the first update."""
    result = capture("stack", "output", "--json", "--show-secrets", "--stack", stack)
    return json.loads(result.stdout) if result.returncode == 0 and result.stdout.strip() else {}
