"""A port of this machine that leads to a Service of an environment's cluster."""

from __future__ import annotations

import contextlib
import re
import selectors
import subprocess
from collections.abc import Iterator, Sequence

from local.errors import LocalError

_START_S = 15


@contextlib.contextmanager
def forwarded(base: Sequence[str], namespace: str, service: str, number: int) -> Iterator[int]:
    """The port, on 127.0.0.1, that leads through the API server. `base`: kubectl. Raises LocalError."""
    command = [*base, "port-forward", "--namespace", namespace, f"service/{service}", f":{number}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _local_port(process, service)
        finally:
            process.terminate()


def _local_port(process: subprocess.Popen[str], service: str) -> int:
    assert process.stdout is not None and process.stderr is not None
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        said = process.stdout.readline() if waiting.select(_START_S) else ""
    if match := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", said):
        return int(match[1])
    process.terminate()
    reason = process.stderr.read().strip() or f"no port within {_START_S} s"
    raise LocalError(f"the service {service} cannot be reached", reason=reason, fix="see `forge status`")
