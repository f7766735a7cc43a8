"""Shared by the unit tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_for_the_next_program() -> Iterator[None]:
    """A test begins with an open event loop, and without outputs and the stack resource of an earlier program.

    These belong to the event loop of their program: another program would wait for them forever, or fail.
    """
    if not _has_open_loop():
        asyncio.set_event_loop(asyncio.new_event_loop())
    _forget()
    yield
    _forget()


def _has_open_loop() -> bool:
    try:
        return not asyncio.get_event_loop_policy().get_event_loop().is_closed()
    except RuntimeError:  # asyncio.run() leaves none
        return False


def _forget() -> None:
    if settings := sys.modules.get("pulumi.runtime.settings"):
        settings.ROOT.set(None)
        with settings.SETTINGS.lock:
            settings.SETTINGS.outputs.clear()
