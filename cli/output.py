"""What `forge` prints: stages with times, errors without tracebacks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from local.errors import LocalError
from local.toolchain.builder import Progress

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False)


def duration(seconds: float) -> str:
    """ "1m 05s" or "3.2s"."""
    return f"{int(seconds // 60)}m {int(seconds % 60):02d}s" if seconds >= 60 else f"{seconds:.1f}s"


def show_error(error: LocalError) -> None:
    """One panel: what, why, fix."""
    body = Text(error.problem, style="bold")
    if error.reason:
        body.append(f"\n\nwhy: {error.reason}", style="not bold")
    if error.fix:
        body.append(f"\n\nfix: {error.fix}", style="not bold green")
    errors.print(Panel(body, title="forge", title_align="left", border_style="red"))


class Stages:
    """Numbered stages, each with its time."""

    def __init__(self, count: int) -> None:
        self._count, self._number, self._started = count, 0, time.monotonic()
        self.times: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce a stage, run it, and say how long it took."""
        self._number += 1
        head = f"[bold cyan]\\[{self._number}/{self._count}][/] {title}"
        console.print(head)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            console.print(f"      [red]failed after {duration(time.monotonic() - started)}[/]")
            raise
        self.times[title] = time.monotonic() - started
        console.print(f"      [green]done[/] in {duration(self.times[title])}")

    @property
    def total(self) -> float:
        """Seconds since the first stage."""
        return time.monotonic() - self._started


def say(message: str) -> None:
    """A line below a stage."""
    console.print(f"      [dim]{message}[/]")


class BuildReport:
    """Progress of tool builds: a live line on a terminal, a line every 20 s elsewhere."""

    EVERY_S = 20.0

    def __init__(self) -> None:
        self._last = 0.0
        self._tool = ""

    def __call__(self, progress: Progress) -> None:
        """Show one report."""
        tool = progress.tool
        now = time.monotonic()
        first = tool.name != self._tool
        if progress.note == "done":
            say(f"built {tool.title} {tool.version} in {duration(progress.elapsed_s)}")
        elif first or now - self._last >= self.EVERY_S:
            share = f"{progress.packages_done}/{progress.packages_total} packages, " if progress.packages_total else ""
            note = f", {progress.note}" if progress.note else ""
            say(
                f"building {tool.title} {tool.version}: {share}{duration(progress.elapsed_s)} of about "
                f"{duration(tool.expected_s)}{note}"
            )
            self._last = now
        self._tool = tool.name
