"""Finds the stage of an environment in its stack file."""

from __future__ import annotations

import functools

import yaml

from components import sources

ENVIRONMENTS = ("local", "dev", "staging", "prod")
"""Stages in the order of strictness."""
STACKS = sources.project() / "stacks"


@functools.cache
def stage(stack: str) -> str:
    """Stage of a stack. Without a file, it is the stage that the name begins with, otherwise the strictest."""
    try:
        found = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())
        named = found["config"]["cogniforge:platform"]["environment"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        named = stack.split("-")[0]
    return named if named in ENVIRONMENTS else ENVIRONMENTS[-1]
