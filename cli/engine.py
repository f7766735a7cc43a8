"""One operation of the Pulumi engine, with its events as data."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import paths
from local.toolchain import builder, engine_process, shim
from local.toolchain.tools import ToolName


@dataclass(frozen=True)
class Outcome:
    """How an operation ended."""

    status: int
    events: tuple[dict[str, Any], ...]
    text: str
    """What a user would have seen."""


def capture(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `pulumi` with its output kept from the user."""
    program = builder.resolve(ToolName.PULUMI)
    try:
        return engine_process.capture([program, *arguments], shim.environment(), paths.PROJECT)
    finally:
        shim.forget_salt()


def run(stack: str, operation: str, *flags: str, shown: bool = False) -> Outcome:
    """Run an operation on a stack without asking; with `shown`, the user sees the engine's own output."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "events.json")
        command = [str(builder.resolve(ToolName.PULUMI)), operation, "--stack", stack, "--non-interactive", *flags]
        # The event log is behind these two switches.
        env = {**shim.environment(), "PULUMI_EXPERIMENTAL": "true", "PULUMI_DEBUG_COMMANDS": "true"}
        command += ["--event-log", str(log)]
        try:
            if shown:
                status, text = engine_process.show(command, env, paths.PROJECT), ""
            else:
                result = engine_process.capture(command, env, paths.PROJECT)
                status, text = result.returncode, result.stderr or result.stdout
        finally:
            shim.forget_salt()
        lines = log.read_text().splitlines() if log.exists() else []
    events = tuple(json.loads(line) for line in lines if line.strip())
    # The engine ends with 0 where only the end of a plugin went wrong: what it has shown may not be all.
    return Outcome(status or int(bool(errors(events))), events, text)


def errors(events: Iterable[dict[str, Any]]) -> list[str]:
    """The errors that the engine reported."""
    found = (event["diagnosticEvent"] for event in events if "diagnosticEvent" in event)
    return [plain(one["message"]).strip() for one in found if one["severity"] == "error"]


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
