"""The APIs of all services of an environment, for operators: one OpenAPI document, and a page that shows it."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit import reference

NAME = "CogniForge Platform"
_TEMPLATE = Path(__file__).with_name("documents.html")


class Documents:
    """OpenAPI documents of the enabled services, from a folder of the image."""

    def __init__(self, folder: Path, services: Sequence[str]) -> None:
        self._folder, self._services = folder, services

    @functools.cached_property
    def _written(self) -> bytes:
        """The merged document as JSON, which needs a tenth of the memory of objects."""
        return json.dumps(self._merged()).encode()

    def _merged(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        elsewhere: list[str] = []
        for service in self._services:
            file = self._folder / f"{service}.json"
            if file.is_file():
                found[service] = json.loads(file.read_text())
            else:
                elsewhere.append(f"/openapi/{service}.json")
        merged = reference.merged(NAME, found)
        if elsewhere:
            merged["info"]["description"] = f"Further documents: {', '.join(elsewhere)}."
        return merged

    def document(self, url: str) -> bytes:
        """The merged document as JSON, with `url` as its server."""
        return b'{"servers": ' + json.dumps([{"url": url}]).encode() + b", " + self._written[1:]

    @functools.cached_property
    def page(self) -> tuple[bytes, str]:
        """The document as an HTML page without scripts, and its Content-Security-Policy."""
        import jinja2  # loaded on first use to save memory

        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        style, template = _TEMPLATE.read_text().split("\n---\n")
        page = environment.from_string(template).render(style=style, found=reference.read(json.loads(self._written)))
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
        return page.encode(), policy
