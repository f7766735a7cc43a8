"""What all tasks share: their input, passwords, and patience with a server that has just started."""

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
    """Something that stops a task; the text says what and why."""


def endpoint() -> str:
    """Where the server is."""
    return os.environ["ENDPOINT"]


def wanted() -> dict[str, Any]:
    """What the platform's program asks for."""
    return json.loads(os.environ.get("PROVISION", "{}"))


def documents(prefix: str) -> list[dict[str, Any]]:
    """What is declared, of the documents whose name begins with `prefix`, as the program wrote them by now."""
    return [json.loads(text) for name, text in sorted(_current().items()) if name.startswith(prefix)]


def _current() -> dict[str, str]:
    """All documents. What a node shows of a ConfigMap may be older than the task."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = {path.stem: path.read_text() for path in DOCUMENTS.glob("*.json")}
        if hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest() == os.environ["DOCUMENTS"]:
            return found
        if time.monotonic() > deadline:
            raise Problem("the documents are not those that the task was made for")
        time.sleep(0.5)


def password(login: str, system: str) -> str:
    """A login's password for a system, as mounted."""
    try:
        return (CREDENTIALS / login / system).read_text().strip()
    except OSError as error:
        raise Problem(f"no password of {login} for {system}: {error}") from None


def patiently(what: str, ask: Callable[[], Found], *passing: type[BaseException]) -> Found:
    """The answer as soon as there is one; errors of the kinds `passing` are taken for a server that starts."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except passing as error:
            if time.monotonic() > deadline:
                raise Problem(f"{what} not within {PATIENCE_S:.0f} s: {error}") from None
            time.sleep(1)
