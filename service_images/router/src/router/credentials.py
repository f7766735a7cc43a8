"""Credentials for model servers: files of mounted Secrets, reloaded when they change.

A provider's credential is in a folder with the name of its host (`<folder>/<host>/<name>`), so that no route can send
it to another host. The key of a model server of the platform is in a file with that server's host name
(`<folder>/inside/<host>`); all routes to this host use it. A credential is written only into requests to its host:
never into logs, spans, metrics, errors or response headers. Answers that repeat it are cleaned.
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
"""Folder with the keys of the platform's own servers."""
LOOK_S = 1.0
"""Seconds between two checks of a file. The kubelet updates a changed Secret within about a minute."""
_KEY = re.compile(rb"[\x21-\x7e]{8,4096}")
HIDDEN = b"[hidden]"


class Credential:
    """The content of one file."""

    def __init__(self, place: str, name: str, *, optional: bool = False) -> None:
        """`optional`: the file may be missing; this is not logged."""
        self._file, self._optional = FOLDER / place / name, optional
        self._looked = float("-inf")
        self._seen: tuple[int, int, int] | None = None
        self._value = b""

    def __repr__(self) -> str:
        return f"Credential({str(self._file)!r})"

    @property
    def value(self) -> bytes:
        """The credential; empty if there is no usable one."""
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
            log.error("a credential is not a line of printable ASCII", file=str(self._file), bytes=len(value))

    def hide(self, text: bytes) -> bytes:
        """A text of the host without the credential, which some hosts repeat in errors."""
        return text.replace(self._value, HIDDEN) if self._value else text
