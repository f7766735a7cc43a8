"""What takes long to make, made once for all tests, and only where a test needs it."""

from __future__ import annotations

import functools

from guardrails.guard import Guard
from guardrails.scanner import Scanner


@functools.cache
def scanner() -> Scanner:
    """With all detectors."""
    return Scanner()


@functools.cache
def guard() -> Guard:
    """With all detectors."""
    return Guard(scanner())
