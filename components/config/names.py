"""Names of environments. Stacks and stack files carry the name, and resource names begin with it."""

from __future__ import annotations

import re

from components.config.problems import ConfigError, Problem

LONGEST = 24
"""Characters. IAM role names, which add the platform's suffixes, then stay within AWS' limit of 64."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def check(name: str) -> None:
    """Raise ConfigError if `name` is not valid for an environment."""
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        limit = f"lower-case letters, digits and single hyphens, a letter first, at most {LONGEST} characters"
        raise ConfigError([Problem("(the environment's name)", f'"{name}"', limit, 'choose one like "prod-eu"')])
