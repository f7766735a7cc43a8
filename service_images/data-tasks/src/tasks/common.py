"""Common parts of all tasks: their input, passwords, and retries for servers that are starting."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

CREDENTIALS = Path("/etc/credentials")
DOCUMENTS = Path("/etc/documents")
PATIENCE_S = 150.0
Found = TypeVar("Found")


class Problem(Exception):
    """A task has failed. The message says why."""


def endpoint() -> str:
    """Address of the server."""
    return os.environ["ENDPOINT"]


def wanted() -> dict[str, Any]:
    """Desired state, from the environment variable PROVISION."""
    return json.loads(os.environ.get("PROVISION", "{}"))


def documents(prefix: str) -> list[dict[str, Any]]:
    """Documents with the desired state whose name begins with `prefix`, in their current version."""
    return [json.loads(text) for name, text in sorted(_current().items()) if name.startswith(prefix)]


def _current() -> dict[str, str]:
    """All documents by name. A node may still mount an older version of a ConfigMap, so this waits."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = {path.stem: path.read_text() for path in DOCUMENTS.glob("*.json")}
        if hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest() == os.environ["DOCUMENTS"]:
            return found
        if time.monotonic() > deadline:
            raise Problem("the mounted documents differ from those that the task was created for")
        time.sleep(0.5)


def password(login: str, system: str) -> str:
    """A login's password for a system, from the mounted Secret."""
    try:
        return (CREDENTIALS / login / system).read_text().strip()
    except OSError as error:
        raise Problem(f"there is no password of {login} for {system}: {error}") from None


def patiently(what: str, ask: Callable[[], Found], *passing: type[BaseException]) -> Found:
    """Call `ask` until it succeeds, and return its result. Errors of the types `passing` are retried."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except passing as error:
            if time.monotonic() > deadline:
                raise Problem(f"{what}; gave up after {PATIENCE_S:.0f} s: {error}") from None
            time.sleep(1)
