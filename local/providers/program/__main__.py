"""Runs a Pulumi program in the interpreter of the program's own virtual environment.

`language.py` starts this file, not this module: that environment need not have the platform's packages. The engine's
request comes as `RunRequest` of Pulumi's protocol, in standard input, so that no secret is in the arguments.
"""

from __future__ import annotations

import os
import sys

SHOWN = 32
"""Exit status of a program that failed and whose error is in the engine's log, as Pulumi's own language host has it."""


def main() -> int:
    """Run the program named by the first argument; returns the exit status."""
    try:
        from pulumi.automation._server import LanguageServer
        from pulumi.runtime.proto import language_pb2
    except ImportError as error:
        print(f"{sys.prefix} has no Pulumi SDK that this platform knows: {error}", file=sys.stderr)
        return 1
    import runpy

    script = sys.argv[1]
    request = language_pb2.RunRequest.FromString(sys.stdin.buffer.read())

    def program() -> None:
        sys.path[0] = os.path.dirname(script)  # noqa: PTH120 - as the interpreter itself would
        sys.argv = [script]
        runpy.run_path(script, run_name="__main__")

    return SHOWN if LanguageServer(program).Run(request, None).error else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
