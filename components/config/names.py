"""Names of environments: of their stacks and files, and the beginning of their resources' names."""

from __future__ import annotations

import re

from components.config.problems import ConfigError, Problem

LONGEST = 24
"""Characters: with the longest suffix of ours, names of IAM roles stay within AWS' 64."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def check(name: str) -> None:
    """Raise ConfigError where an environment cannot have this name."""
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        limit = f"lower-case letters, digits and single hyphens, a letter first, at most {LONGEST} characters"
        raise ConfigError([Problem("(the environment's name)", f'"{name}"', limit, 'choose one like "prod-eu"')])
