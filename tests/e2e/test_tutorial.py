"""The tutorial of the first hour: each block is executed, and prints the output on the page."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from local import paths
from tests.e2e.conftest import FORGE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
PAGE = paths.PROJECT / "docs" / "tutorial" / "first-hour.md"
_FENCE = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


def _steps(text: str) -> Iterator[tuple[str, str]]:
    """Code blocks of the page, each with its printed output."""
    blocks = [(found[1], found[2]) for found in _FENCE.finditer(text)]
    for number, (language, content) in enumerate(blocks):
        follows = blocks[number + 1] if number + 1 < len(blocks) else ("", "")
        if language == "python":
            yield content, follows[1] if follows[0] == "text" else ""


def _as_shown(printed: str, shown: str) -> bool:
    """`…` stands for any text."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def test_each_block_of_the_tutorial_prints_what_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{FORGE.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(paths.PROJECT)
    session: dict[str, Any] = {}
    steps = list(_steps(PAGE.read_text()))
    assert len(steps) > 15
    for code, shown in steps:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(PAGE), "exec"), session)
        assert _as_shown(printed.getvalue(), shown), f"{code}\nprinted:\n{printed.getvalue()}\nthe page shows:\n{shown}"
