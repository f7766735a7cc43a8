"""Deployment check: succeeds once the keeper has brought the store's content to the declaration."""

from __future__ import annotations

import hashlib
import json
import os
import time

from baonode import content, layout
from baonode.client import Client, Refused, Unreachable
from baonode.content import Kind
from baonode.layout import Problem

ROLE = "platform.check"
PATIENCE_S = 200.0


def main() -> int:
    """Wait for the content. Report the remaining differences after the timeout."""
    deadline = time.monotonic() + PATIENCE_S
    said = ""
    while True:
        left = _left()
        if not left:
            print("the content of the secret store matches the declaration", flush=True)
            return 0
        if left != said:
            said = left
            print(left, flush=True)
        if time.monotonic() > deadline:
            raise Problem(f"the content is not as declared after {PATIENCE_S:.0f} s: {left}. See the keeper's log")
        time.sleep(1)


def _left() -> str:
    """Remaining differences; empty if there are none."""
    try:
        text = layout.declared().read_text()
        if _digest(text) != os.environ["DOCUMENTS"]:
            return "the node still has an older declaration than this task"
        client = Client(layout.address(), layout.authority())
        client.login(ROLE, layout.token().read_text().strip())
        left = content.differences(client, json.loads(text))
    except (Unreachable, Refused, OSError, ValueError) as error:
        return str(error)
    return "; ".join(str(one) for one in left if one.kind is not Kind.KEEP)


def _digest(text: str) -> str:
    """Digest of a task's documents, computed as by the Pulumi program."""
    return hashlib.sha256(json.dumps({layout.declared().stem: text}, sort_keys=True).encode()).hexdigest()
