"""Images are fetched into the node before pods need them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local.node.fetching import fetching
from local.node.settings import NodePaths
from tests.waiting import until

_CTR = """#!/bin/sh
for last; do :; done
case "$last" in
  *slow*) echo "$$" >> "$SAID"; exec sleep 600 ;;
  *broken*) exit 1 ;;
  *) echo "$last" >> "$SAID" ;;
esac
"""


@pytest.fixture(name="said")
def _said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File to which the stand-in of `ctr` writes what it fetched; of a slow image, its process."""
    program = tmp_path / "bin" / "ctr"
    program.parent.mkdir()
    program.write_text(_CTR)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    said = tmp_path / "said"
    said.touch()
    monkeypatch.setenv("SAID", str(said))
    return said


def test_an_image_that_cannot_be_fetched_does_not_hold_the_others(said: Path) -> None:
    with fetching(NodePaths()) as fetch:
        for name in ("one", "broken", "two"):
            fetch(name)
        until(lambda: said.read_text().split() == ["one", "two"])


def test_the_end_of_the_context_ends_the_running_fetch_and_begins_no_other(said: Path) -> None:
    with fetching(NodePaths()) as fetch:
        fetch("slow")
        fetch("one")
        process = int(until(said.read_text))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert said.read_text().split() == [str(process)]
