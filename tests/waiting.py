"""Waiting for conditions with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
_PAUSE_S = 0.2


def until(what: Callable[[], T | None], seconds: float = 60, say: Callable[[], str] = lambda: "") -> T:
    """The first true result of `what`. Fails after the time limit, with the output of `say`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {say() or what}")
        time.sleep(_PAUSE_S)
    return found
