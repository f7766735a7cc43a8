"""One operation of the Pulumi engine, with its events as data."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import paths
from local.toolchain import builder, shim
from local.toolchain.tools import ToolName


@dataclass(frozen=True)
class Outcome:
    """How an operation ended."""

    status: int
    events: tuple[dict[str, Any], ...]
    text: str
    """What a user would have seen."""


def run(stack: str, operation: str, *flags: str) -> Outcome:
    """Run an operation on a stack without asking."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "events.json")
        command = [str(builder.resolve(ToolName.PULUMI)), operation, "--stack", stack, "--non-interactive", *flags]
        # The event log is behind these two switches.
        env = {**shim.environment(), "PULUMI_EXPERIMENTAL": "true", "PULUMI_DEBUG_COMMANDS": "true"}
        command += ["--event-log", str(log)]
        result = subprocess.run(command, cwd=paths.PROJECT, env=env, capture_output=True, text=True)
        shim.forget_salt()
        lines = log.read_text().splitlines() if log.exists() else []
    return Outcome(
        result.returncode, tuple(json.loads(line) for line in lines if line.strip()), result.stderr or result.stdout
    )


def part_of(urn: str) -> str:
    """The component that a resource belongs to: the nearest of the platform's above it."""
    chain = urn.split("::")[2].split("$")
    owners = [t.split(":")[2] for t in chain[:-1] if t.startswith("cogniforge:")]
    return owners[-1] if owners else "(no part)"


def type_of(urn: str) -> str:
    """The type of a resource."""
    return urn.split("::")[2].split("$")[-1]


def plain(text: str) -> str:
    """A message without the engine's colour marks."""
    for mark in ("<{%reset%}>", "<{%fg 1%}>", "<{%fg 3%}>", "<{%fg 8%}>", "<{%bold%}>", "<{%underline%}>"):
        text = text.replace(mark, "")
    return text
