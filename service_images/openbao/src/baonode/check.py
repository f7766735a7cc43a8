"""Ends with success once the store's content is as declared, which the keeper sees to."""

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
    """Wait for it, and say what differs if it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    said = ""
    while True:
        left = _left()
        if not left:
            print("the content of the secret store is as declared", flush=True)
            return 0
        if left != said:
            said = left
            print(left, flush=True)
        if time.monotonic() > deadline:
            raise Problem(f"not as declared within {PATIENCE_S:.0f} s: {left}. See the log of the store's keeper")
        time.sleep(1)


def _left() -> str:
    """What is not as it should be; empty: nothing."""
    try:
        text = layout.declared().read_text()
        if _digest(text) != os.environ["DOCUMENTS"]:
            return "the node shows an older declaration than the one that this task was made for"
        client = Client(layout.address(), layout.authority())
        client.login(ROLE, layout.token().read_text().strip())
        left = content.differences(client, json.loads(text))
    except (Unreachable, Refused, OSError, ValueError) as error:
        return str(error)
    return "; ".join(str(one) for one in left if one.kind is not Kind.KEEP)


def _digest(text: str) -> str:
    """As the program computes it of all documents of a task."""
    return hashlib.sha256(json.dumps({layout.declared().stem: text}, sort_keys=True).encode()).hexdigest()
