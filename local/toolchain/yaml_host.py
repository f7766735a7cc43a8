"""Pulumi's language host for YAML, which the CLI starts as `pulumi-language-yaml`. It is built at its first use."""

from __future__ import annotations

import os
import sys

from local.errors import LocalError
from local.toolchain import builder
from local.toolchain.tools import TOOLS, ToolName


def main() -> None:
    """Become the language host. The CLI shows what is written to standard error."""
    tool = TOOLS[ToolName.YAML_HOST]
    if not builder.cached_path(tool).exists():
        print(f"building {tool.title}, once: about {tool.expected_s} s", file=sys.stderr, flush=True)
    try:
        program = builder.resolve(tool.name)
    except LocalError as error:
        raise SystemExit(f"error: {error}") from None
    os.execv(program, [str(program), *sys.argv[1:]])


if __name__ == "__main__":
    main()
