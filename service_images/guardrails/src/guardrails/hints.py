"""Finds which of many expressions occur in a text, with Hyperscan, which searches for many at once.

The expressions are divided into several databases (`Part`). A database takes up to a second to compile and less than a
millisecond to load, so they are built with the image (`python -m guardrails.build`). Their file names depend on the
expressions and on Hyperscan's version. If a file is missing, or Hyperscan refuses it on this machine, the expressions
are compiled at run time.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import hyperscan
from kit import logs

log = logs.get("guardrails.hints")
BUILT = Path("/opt/app/hints")
"""Folder of the databases in the image."""


class Part(IntEnum):
    """Database of an expression.

    Hyperscan combines the expressions of a database into a few automata. Expressions with similar beginnings form an
    automaton that is as fast as each alone; different ones slow each other down, as does a small one before a large
    one. On 2 KB of prose, these four databases take 15.5 us; a single one with the same expressions takes 24.5 us.
    """

    WORDS = 0
    """Expressions with literal characters, or with few possible starts."""
    LETTERS = 1
    """Expressions that may begin at any letter, so that an automaton must process every character."""
    PAIRS = 2
    """Two letters or digits, and the following characters."""
    DIGITS = 3
    """Begins with a digit."""


class Hints:
    """Searches for expressions. Used by one thread at a time."""

    def __init__(self, *parts: Sequence[str]) -> None:
        """`parts`: expressions of each database. They are numbered consecutively."""
        databases = [_database(tuple(part), BUILT) for part in parts if part]
        firsts = [sum(map(len, parts[:number])) for number, part in enumerate(parts) if part]
        self._databases = list(zip(databases, firsts, map(hyperscan.Scratch, databases), strict=True))

    def twin(self) -> Hints:
        """A copy for another thread."""
        other = copy.copy(self)
        other._databases = [(database, first, hyperscan.Scratch(database)) for database, first, _ in self._databases]
        return other

    def hits(self, content: bytes) -> list[int]:
        """Numbers of the expressions that occur in the content."""
        found: list[int] = []
        for database, first, scratch in self._databases:
            # Positional arguments: keywords would cost more than the scan of a short text.
            database.scan(content, _hit, 0, (found, first), scratch)
        return found


def _hit(number: int, _: int, __: int, ___: int, context: tuple[list[int], int]) -> None:
    found, first = context
    found.append(first + number)


def save(expressions: Sequence[str], folder: Path) -> Path:
    """Write the database to the file that `Hints` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _name(tuple(expressions))
    file.write_bytes(hyperscan.dumpb(_compiled(tuple(expressions))))
    return file


@functools.cache
def _database(expressions: tuple[str, ...], folder: Path) -> Any:
    return _read(folder / _name(expressions)) or _compiled(expressions)


def _read(file: Path) -> Any:
    """A stored database, or None if there is no usable one."""
    try:
        return hyperscan.loadb(file.read_bytes(), hyperscan.HS_MODE_BLOCK)
    except OSError:
        return None
    except hyperscan.error as error:
        log.warning("the image's database of hints is not usable; compiling it", reason=repr(error))
        return None


def _compiled(expressions: tuple[str, ...]) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[_plain(expression).encode() for expression in expressions],
        ids=list(range(len(expressions))),
        elements=len(expressions),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_ALLOWEMPTY] * len(expressions),
    )
    return database


def _name(expressions: tuple[str, ...]) -> str:
    content = json.dumps((hyperscan.__version__, expressions))
    return f"{hashlib.sha256(content.encode()).hexdigest()}.hyperscan"


def _plain(expression: str) -> str:
    """The expression without named groups, which Hyperscan does not support."""
    return expression.replace("(?P<v>", "(")
