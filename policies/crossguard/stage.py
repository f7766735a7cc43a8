"""The stage that an environment is of: its stack's file says which."""

from __future__ import annotations

import functools

import yaml

from components import sources

ENVIRONMENTS = ("local", "dev", "staging", "prod")
"""Stages, from the least to the most strict."""
STACKS = sources.project() / "stacks"


@functools.cache
def stage(stack: str) -> str:
    """Of a stack without a file: the stage that its name begins with; else the strictest."""
    try:
        found = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())
        named = found["config"]["cogniforge:platform"]["environment"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        named = stack.split("-")[0]
    return named if named in ENVIRONMENTS else ENVIRONMENTS[-1]
