"""Shared by the unit tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_output_is_left_for_the_next_program() -> Iterator[None]:
    """Outputs created outside of a program belong to the test's event loop; the next program would wait forever."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    if settings := sys.modules.get("pulumi.runtime.settings"):
        with settings.SETTINGS.lock:
            settings.SETTINGS.outputs.clear()
