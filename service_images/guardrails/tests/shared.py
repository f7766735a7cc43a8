"""Expensive fixtures, created once and only if a test needs them."""

from __future__ import annotations

import functools

from guardrails.guard import Guard
from guardrails.scanner import Scanner


@functools.cache
def scanner() -> Scanner:
    """A scanner with all detectors."""
    return Scanner()


@functools.cache
def guard() -> Guard:
    """A scanner with all detectors."""
    return Guard(scanner())
