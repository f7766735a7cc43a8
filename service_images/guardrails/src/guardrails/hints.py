"""Which of many expressions are somewhere in a text: Hyperscan looks for many of them at once.

`Part` says in how many databases. A database takes up to a second to compile and less than a millisecond to read. So
they are made with the image (`python -m guardrails.build`), under names that say for which expressions and which
Hyperscan they are; where there is none of a name, or Hyperscan does not take it on this machine, the expressions are
compiled in place.
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
"""Where the image has its databases."""


class Part(IntEnum):
    """The database that an expression is in.

    Hyperscan joins the expressions of a database to a few automata. Those that begin alike make one that is as fast as
    each alone; unlike ones slow each other down, and so does a small one in front of a large one. On 2 KB of prose
    these four databases take 15.5 us, one of the same expressions took 24.5 us.
    """

    WORDS = 0
    """Has characters that must be there as they are, or few places where it may begin."""
    LETTERS = 1
    """May begin at any letter: an automaton has to follow every character."""
    PAIRS = 2
    """Two letters or digits, and what stands behind them."""
    DIGITS = 3
    """Begins with a digit."""


class Hints:
    """Used by one thread at a time."""

    def __init__(self, *parts: Sequence[str]) -> None:
        """`parts`: the expressions of each database, which are numbered throughout."""
        databases = [_database(tuple(part), BUILT) for part in parts if part]
        firsts = [sum(map(len, parts[:number])) for number, part in enumerate(parts) if part]
        self._databases = list(zip(databases, firsts, map(hyperscan.Scratch, databases), strict=True))

    def twin(self) -> Hints:
        """For another thread."""
        other = copy.copy(self)
        other._databases = [(database, first, hyperscan.Scratch(database)) for database, first, _ in self._databases]
        return other

    def hits(self, content: bytes) -> list[int]:
        """The numbers of the expressions that are there."""
        found: list[int] = []
        for database, first, scratch in self._databases:
            # By place: names of arguments would cost more than the scan of a short text.
            database.scan(content, _hit, 0, (found, first), scratch)
        return found


def _hit(number: int, _: int, __: int, ___: int, context: tuple[list[int], int]) -> None:
    found, first = context
    found.append(first + number)


def save(expressions: Sequence[str], folder: Path) -> Path:
    """Write the database where `Hints` will look for it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _name(tuple(expressions))
    file.write_bytes(hyperscan.dumpb(_compiled(tuple(expressions))))
    return file


@functools.cache
def _database(expressions: tuple[str, ...], folder: Path) -> Any:
    return _read(folder / _name(expressions)) or _compiled(expressions)


def _read(file: Path) -> Any:
    """None: there is none that fits."""
    try:
        return hyperscan.loadb(file.read_bytes(), hyperscan.HS_MODE_BLOCK)
    except OSError:
        return None
    except hyperscan.error as error:
        log.warning("the image's database of hints does not fit; it is compiled", reason=repr(error))
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
    told = json.dumps((hyperscan.__version__, expressions))
    return f"{hashlib.sha256(told.encode()).hexdigest()}.hyperscan"


def _plain(expression: str) -> str:
    """Hyperscan knows no named groups."""
    return expression.replace("(?P<v>", "(")
