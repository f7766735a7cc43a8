"""Which of many expressions are somewhere in a text: Hyperscan looks for all of them at once.

Its database takes more than a second to compile and less than a millisecond to read. So it is made with the image
(`python -m guardrails.build`), under a name that says for which expressions and which Hyperscan it is; where there is
none of that name, or Hyperscan does not take it on this machine, the expressions are compiled in place.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hyperscan
from kit import logs

log = logs.get("guardrails.hints")
BUILT = Path("/opt/app/hints")
"""Where the image has its databases."""


class Hints:
    """Used by one thread at a time."""

    def __init__(self, expressions: Sequence[str]) -> None:
        self._database = _database(tuple(expressions), BUILT)
        self._scratch = hyperscan.Scratch(self._database)

    def twin(self) -> Hints:
        """For another thread."""
        other = copy.copy(self)
        other._scratch = hyperscan.Scratch(self._database)
        return other

    def hits(self, content: bytes) -> list[int]:
        """The numbers of the expressions that are there."""
        found: list[int] = []

        def hit(number: int, _: int, __: int, ___: int, ____: Any) -> None:
            found.append(number)

        self._database.scan(content, match_event_handler=hit, scratch=self._scratch)
        return found


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
