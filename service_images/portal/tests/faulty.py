"""A server that answers wrongly, slowly or too much, in place of one that works: real ones cannot be made to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MIB = b" " * 2**20


@dataclass
class Faulty:
    """The server. What it answers can be changed at any time."""

    status: int = 200
    body: bytes = b"{}"
    times: int = 1
    """How often the body is sent in one answer."""
    hangs: threading.Event | None = None
    """It answers once this is set."""
    paths: list[str] = field(default_factory=list[str])
    """What it was asked."""
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """Headers of what it was asked, with small letters."""
    url: str = ""


@contextmanager
def faulty() -> Iterator[Faulty]:
    """A running server on loopback."""
    made = Faulty()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.paths.append(self.path)
            made.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("content-length", 0)))
            if made.hangs is not None:
                made.hangs.wait(60)
            try:
                self.send_response(made.status)
                self.end_headers()
                for _ in range(made.times):
                    self.wfile.write(made.body)
            except OSError:
                pass  # the Portal has given up, which is what the test wants

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        if made.hangs is not None:
            made.hangs.set()
        server.shutdown()
        thread.join()
