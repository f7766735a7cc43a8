"""What servers of models are shown: files of mounted Secrets, read anew when they change.

A provider's credential lies below the name of the host that it is for (`<folder>/<host>/<name>`), so that no route can
send it to another one. The key of a model server of the platform is the file of that server's host
(`<folder>/inside/<host>`): every route to this host shows it, whether configured, found or made by an operator. Either
is written into requests to that host and nowhere else: not into logs, spans, metrics, errors or headers
of answers, and an answer that repeats it is cleaned.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from kit import logs

log = logs.get("router.credentials")
FOLDER = Path(os.environ.get("SERVICE_CREDENTIALS", "/etc/router-credentials"))
INSIDE = "inside"
"""Folder of the keys of the platform's own servers."""
LOOK_S = 1.0
"""Seconds between two looks at a file: kubelet brings a changed Secret within about a minute."""
_KEY = re.compile(rb"[\x21-\x7e]{8,4096}")
HIDDEN = b"[hidden]"


class Credential:
    """One file."""

    def __init__(self, place: str, name: str, *, optional: bool = False) -> None:
        """`optional`: the file may be missing, without a word in the log."""
        self._file, self._optional = FOLDER / place / name, optional
        self._looked = float("-inf")
        self._seen: tuple[int, int, int] | None = None
        self._value = b""

    def __repr__(self) -> str:
        return f"Credential({str(self._file)!r})"

    @property
    def value(self) -> bytes:
        """What to show the host; empty where there is none that can be used."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            found = self._file.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return
            value = self._file.read_bytes().strip()
        except OSError as error:
            if self._seen is not None or not (self._value or self._optional):
                log.error("a credential cannot be read", file=str(self._file), reason=error.strerror)
            self._seen, self._value = None, b""
            return
        self._seen = seen
        self._value = value if _KEY.fullmatch(value) else b""
        if not self._value:
            log.error("a credential is no line of printable ASCII", file=str(self._file), bytes=len(value))

    def hide(self, text: bytes) -> bytes:
        """A text of the host without the credential, which some repeat in errors."""
        return text.replace(self._value, HIDDEN) if self._value else text
