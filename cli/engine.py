"""Runs operations of the Pulumi engine and returns their events as data."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import paths
from local.toolchain import builder, engine_process, shim, stack_files
from local.toolchain.tools import ToolName


@dataclass(frozen=True)
class Outcome:
    """Result of an operation."""

    status: int
    events: tuple[dict[str, Any], ...]
    text: str
    """Output for the user."""


@contextmanager
def _command(*arguments: str) -> Iterator[list[str]]:
    """A command of `pulumi` that leaves the stack files alone."""
    program = str(builder.resolve(ToolName.PULUMI))
    with stack_files.guarded(arguments, paths.PROJECT / "stacks") as given:
        yield [program, *given]


def capture(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `pulumi` and capture its output."""
    with _command(*arguments) as command:
        return engine_process.capture(command, shim.environment(), paths.PROJECT)


def show(*arguments: str) -> int:
    """Run `pulumi`, whose output the user sees. Returns its exit status."""
    with _command(*arguments) as command:
        return engine_process.show(command, shim.environment(), paths.PROJECT)


def run(stack: str, operation: str, *flags: str, shown: bool = False) -> Outcome:
    """Run an operation on a stack without confirmation. With `shown`, the user sees the engine's own output."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "events.json")
        # The event log needs both of these variables.
        env = {**shim.environment(), "PULUMI_EXPERIMENTAL": "true", "PULUMI_DEBUG_COMMANDS": "true"}
        arguments = [operation, "--stack", stack, "--non-interactive", *flags, "--event-log", str(log)]
        with _command(*arguments) as command:
            if shown:
                status, text = engine_process.show(command, env, paths.PROJECT), ""
            else:
                result = engine_process.capture(command, env, paths.PROJECT)
                status, text = result.returncode, result.stderr or result.stdout
        lines = log.read_text().splitlines() if log.exists() else []
    events = tuple(json.loads(line) for line in lines if line.strip())
    # The engine exits with 0 if a plugin has crashed at its end. Its output may then be incomplete.
    return Outcome(status or int(bool(errors(events))), events, text)


def errors(events: Iterable[dict[str, Any]]) -> list[str]:
    """Messages of errors that the engine reported."""
    found = (event["diagnosticEvent"] for event in events if "diagnosticEvent" in event)
    return [plain(one["message"]).strip() for one in found if one["severity"] == "error"]


SERVICE = "AiService"
"""Kind of the component of a service. An environment has many, so a service's part has the service's own name."""


def part_of(urn: str, parent: str = "") -> str:
    """The part that a resource belongs to: its nearest parent that is a component of the platform.

    `parent`: URN of the resource's parent, which distinguishes the services.
    """
    stack, chain = urn.split("::")[0].rpartition(":")[2], urn.split("::")[2].split("$")
    owners = [t.split(":")[2] for t in chain[:-1] if t.startswith("cogniforge:")]
    if owners and owners[-1] == SERVICE and type_of(parent or urn).endswith(f":{SERVICE}"):
        return parent.split("::")[-1].removeprefix(f"{stack}-")
    return owners[-1] if owners else "(no part)"


def type_of(urn: str) -> str:
    """Type of a resource, from its URN."""
    return urn.split("::")[2].split("$")[-1]


def plain(text: str) -> str:
    """A message without the engine's colour codes."""
    for mark in ("<{%reset%}>", "<{%fg 1%}>", "<{%fg 3%}>", "<{%fg 8%}>", "<{%bold%}>", "<{%underline%}>"):
        text = text.replace(mark, "")
    return text
