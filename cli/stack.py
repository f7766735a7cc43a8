"""The Pulumi stack of an environment, driven through the same `pulumi` that the user types."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import yaml

from components.config import PlatformConfig
from components.config_parse import parse
from components.config_problems import ConfigError
from local import paths
from local.errors import LocalError
from local.toolchain import builder, shim
from local.toolchain.tools import ToolName


def config_file(stack: str) -> Any:
    """The stack's file."""
    return paths.PROJECT / "stacks" / f"Pulumi.{stack}.yaml"


def read_config(stack: str) -> PlatformConfig:
    """The stack's validated configuration. Raises LocalError with every problem in it."""
    file = config_file(stack)
    try:
        content = yaml.safe_load(file.read_text())
        data = content["config"]["cogniforge:platform"]
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem.removeprefix("Pulumi.") for p in file.parent.glob("Pulumi.*.yaml")))
        raise LocalError(f"there is no stack file {file.name}", fix=f"use one of: {known}") from None
    except yaml.YAMLError as error:
        raise LocalError(f"{file.name} is not YAML", reason=str(error), fix="correct the line named above") from None
    except (KeyError, TypeError):
        raise LocalError(
            f"{file.name} has no platform configuration",
            reason="`config:` must hold `cogniforge:platform:`",
            fix="see stacks/Pulumi.local.yaml for an example",
        ) from None
    try:
        return parse(data)
    except ConfigError as error:
        raise LocalError(f"{file.name}: {error}", fix="correct the fields named above") from None


def capture(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `pulumi` with its output kept from the user."""
    program = builder.resolve(ToolName.PULUMI)
    result = subprocess.run(
        [str(program), *arguments], cwd=paths.PROJECT, env=shim.environment(), capture_output=True, text=True
    )
    shim.forget_salt()
    return result


def exists(stack: str) -> bool:
    """Whether the back end has the stack."""
    listing = capture("stack", "ls", "--json")
    if listing.returncode != 0:
        raise LocalError("the Pulumi back end cannot be read", reason=listing.stderr)
    return any(s["name"] == stack for s in json.loads(listing.stdout or "[]"))


def ensure(stack: str) -> None:
    """Create the stack the first time; clear what an interrupted update left pending."""
    shim.ensure_backend()
    if not exists(stack):
        result = capture("stack", "init", stack, "--no-select", "--non-interactive")
        if result.returncode != 0:
            raise LocalError(f"the stack {stack} could not be created", reason=result.stderr)
        return
    # A killed update leaves a lock behind; no other update can run here, since `forge` holds its own.
    capture("cancel", "--yes", "--stack", stack)


def run(stack: str, operation: str, *flags: str, quiet: bool = False) -> None:
    """Run preview, up, refresh or destroy, showing Pulumi's own output. Raises LocalError when it fails."""
    arguments = [operation, "--stack", stack, "--non-interactive", "--suppress-permalink=true", *flags]
    if operation != "preview":
        arguments.append("--yes")
    if not quiet:
        status = subprocess.run(
            [sys.executable, "-m", "local.toolchain.shim", "--cwd", str(paths.PROJECT), *arguments]
        ).returncode
        reason = "see Pulumi's messages above"
    else:
        result = capture(*arguments)
        status, reason = result.returncode, _diagnostics(result.stdout + result.stderr)
    if status != 0:
        raise LocalError(
            f"pulumi {operation} failed",
            reason=reason,
            fix="mend the cause and run the same command again: it resumes",
        )


def _diagnostics(text: str) -> str:
    """Pulumi's diagnostics without its progress lines and its remarks on plugins."""
    lines = text.split("Diagnostics:", 1)[-1].splitlines()
    kept = [line for line in lines if line.strip() and "warning: using pulumi-" not in line]
    end = next((i for i, line in enumerate(kept) if line.startswith(("Outputs:", "Resources:"))), len(kept))
    return "\n       ".join(kept[:end])


def protected(deployment: dict[str, Any]) -> list[str]:
    """What an exported stack protects from deletion, as "Kind name"."""
    resources = deployment.get("deployment", {}).get("resources") or []
    kept = [resource["urn"] for resource in resources if resource.get("protect")]
    parts = [(urn.split("::")[2].split("$")[-1], urn.split("::")[3]) for urn in kept]
    return sorted(f"{token.rsplit(':', 1)[-1]} {name}" for token, name in parts)


def refuse_protected(stack: str) -> None:
    """Raise LocalError with the list where the stack protects anything: a destroy would stop half-way."""
    result = capture("stack", "export", "--stack", stack)
    if result.returncode != 0:
        raise LocalError(f"the state of {stack} cannot be read", reason=result.stderr)
    if kept := protected(json.loads(result.stdout)):
        raise LocalError(
            f"{stack} holds data that is protected; nothing was deleted",
            reason="\n     ".join(kept),
            fix="if the data may go: set data.destroyData to true, run `forge up`, then destroy again",
        )


def outputs(stack: str) -> dict[str, Any]:
    """The stack's outputs, secrets included; empty before the first update."""
    result = capture("stack", "output", "--json", "--show-secrets", "--stack", stack)
    return json.loads(result.stdout) if result.returncode == 0 and result.stdout.strip() else {}
