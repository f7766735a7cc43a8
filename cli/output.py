"""Output of `forge`: stages with their durations, tables, JSON documents, and errors without tracebacks."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from local.errors import LocalError

if TYPE_CHECKING:
    from cli.documents import Document
    from local.toolchain.builder import Progress as Build

WIDTH = 100
"""Width in columns if the output is not a terminal."""
_SHORT_S = 2.0
"""Seconds after which an operation's duration is reported."""


def _console(*, stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else WIDTH)


console = _console(stderr=False)
errors = _console(stderr=True)


def line(markup: str, *, indent: int = 0) -> None:
    """Print a paragraph of rich markup, wrapped between words. Continuation lines are indented by `indent`."""
    for each in Text.from_markup(markup).split("\n"):
        wrapped = _wrap(each, console.width, indent)
        console.print(wrapped, overflow="ignore", no_wrap=True, crop=False)


def _wrap(text: Text, width: int, indent: int) -> Text:
    """Wrap a text between words only: a path or a command that is longer than the line is not broken."""
    lines = textwrap.wrap(
        text.plain,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        # Lines are slices of the text, which keeps their styles.
        expand_tabs=False,
        replace_whitespace=False,
    )
    result, position = Text(), 0
    for number, part in enumerate(lines):
        content = part[indent:] if number else part
        position = text.plain.index(content, position)
        result.append("\n" + " " * indent if number else "")
        result.append_text(text[position : position + len(content)])
        position += len(content)
    return result


def table(*columns: str, title: str = "", right: frozenset[str] = frozenset()) -> Table:
    """An empty table that never breaks cells within a word."""
    view = Table(title=title or None, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        if column in right:
            view.add_column(column, justify="right", no_wrap=True)
        else:
            view.add_column(column, overflow="ignore", no_wrap=True)
    return view


def document(found: Document) -> None:
    """Print a JSON document to standard output."""
    print(found.model_dump_json(indent=2))


def only_documents() -> None:
    """Send all further output except the document to standard error."""
    console.stderr = True


@contextlib.contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show on standard error what is running, and its duration. Silent if it takes less than two seconds."""
    started = time.monotonic()
    if errors.is_terminal:
        columns = (SpinnerColumn(), TextColumn("[dim]{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=errors, transient=True) as progress:
            progress.add_task(title, total=None)
            yield
    else:
        yield
    if (took := time.monotonic() - started) >= _SHORT_S:
        errors.print(f"[dim]{title}: {duration(took)}[/]")


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation. Raises LocalError if the answer is no, or if there is none."""
    if yes:
        return
    try:
        if typer.confirm(question):
            return
    except typer.Abort:
        console.print()
        raise LocalError("there was no answer; nothing was changed", fix="answer y, or add --yes in a script") from None
    raise LocalError("nothing was changed")


def duration(seconds: float) -> str:
    """A duration as text: "1m 05s" or "3.2s"."""
    return f"{int(seconds // 60)}m {int(seconds % 60):02d}s" if seconds >= 60 else f"{seconds:.1f}s"


def show_error(error: LocalError) -> None:
    """Print an error with problem, reason and fix on standard error."""
    errors.print(_labelled("error: ", error.problem, "bold red"), overflow="ignore", no_wrap=True, crop=False)
    for label, text, style in (("  why: ", error.reason, ""), ("  fix: ", error.fix, "green")):
        if text:
            errors.print(_labelled(label, text, style), overflow="ignore", no_wrap=True, crop=False)


def _labelled(label: str, text: str, style: str) -> Text:
    """The text after its label, wrapped between words."""
    first, _, rest = text.partition("\n")
    lines = [first, *textwrap.dedent(rest).splitlines()] if rest else [first]
    shown: list[str] = []
    for each in lines:
        own = " " * (len(each) - len(each.lstrip()))
        prefix = " " * len(label) + own
        wrapped = textwrap.wrap(
            each.strip(),
            errors.width,
            initial_indent=prefix,
            subsequent_indent=prefix,
            break_long_words=False,
            break_on_hyphens=False,
        )
        shown += wrapped or [""]
    return Text(label + "\n".join(shown).lstrip(), style=style)


class Stages:
    """Numbered stages of a command, with their durations."""

    def __init__(self, count: int) -> None:
        self._count, self._number, self._started = count, 0, time.monotonic()
        self.times: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Print the title of a stage, run it, and print its duration."""
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
    """Print a line below the current stage."""
    console.print(Text(f"      {message}", style="dim"), overflow="ignore", no_wrap=True, crop=False)


class BuildReport:
    """Prints the progress of tool builds: a live line on a terminal, otherwise a line every 20 seconds."""

    EVERY_S = 20.0

    def __init__(self) -> None:
        self._last = 0.0
        self._tool = ""

    def __call__(self, progress: Build) -> None:
        """Print a progress report."""
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
