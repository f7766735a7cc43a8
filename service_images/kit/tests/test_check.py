"""The end-to-end check sends the key of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from kit import check

from service_images.serving import answering

SEEN: list[str | None] = []


class Gateway(BaseHTTPRequestHandler):
    """Notes the key of each request."""

    def do_POST(self) -> None:
        """Answer like a model."""
        SEEN.append(self.headers.get("authorization"))
        body = json.dumps({"choices": [1]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Disable logging."""


@pytest.fixture
def gateway() -> Iterator[str]:
    SEEN.clear()
    with answering(Gateway) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("content", "shown"), [("the-key\n", "Bearer the-key"), (None, None)])
def test_the_check_sends_the_key_of_the_file(
    gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, shown: str | None
) -> None:
    for name, value in {"URL": gateway, "BODY": "{}", "EXPECT": "choices", "TIMEOUT_SECONDS": "30"}.items():
        monkeypatch.setenv(f"CHECK_{name}", value)
    if content is not None:
        (tmp_path / "key").write_text(content)
        monkeypatch.setenv("CHECK_KEY_FILE", str(tmp_path / "key"))
    assert check.main() == 0
    assert [shown] == SEEN
