"""Style sheet and scripts of the pages, each at an address that contains a digest of its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kit.errors import missing
from starlette.responses import Response

PLACE = "/portal/static"
_FOLDER = Path(__file__).with_name("static")
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
NAME = r"[a-z]+\.[0-9a-f]{12}\.(css|js|svg)"
"""Pattern of the names."""


class Files:
    """The files, read once."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._content: dict[str, tuple[bytes, str]] = {}
        for file in sorted(_FOLDER.iterdir()):
            if file.suffix in _KINDS:
                content = file.read_bytes()
                name = f"{file.stem}.{hashlib.sha256(content).hexdigest()[:12]}{file.suffix}"
                self._names[file.name], self._content[name] = name, (content, _KINDS[file.suffix])

    def address(self, name: str) -> str:
        """Address of a file."""
        return f"{PLACE}/{self._names[name]}"

    def answer(self, name: str) -> Response:
        """The file. Browsers keep it for a year, since a changed one has another address. Raises ApiError(404)."""
        if name not in self._content:
            raise missing("file")
        content, kind = self._content[name]
        headers = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        return Response(content, media_type=kind, headers=headers)
