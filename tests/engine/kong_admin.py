"""A double of Kong's Admin API for its ingress controller: it accepts and stores a configuration.

Kong itself is not to be had as a package; what is under test is the controller's translation, which is real.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LISTENER = {"ip": "0.0.0.0", "port": 8443, "ssl": True, "http2": True, "listener": "0.0.0.0:8443 http2 ssl"}
_ROOT = {
    "version": "3.9.1",
    "configuration": {
        "database": "off",
        "router_flavor": "traditional_compatible",
        "proxy_listeners": [_LISTENER],
        "stream_listeners": [],
    },
    "plugins": {"available_on_server": {}},
}


class Admin(ThreadingHTTPServer):
    """Stores the latest configuration."""

    config: dict[str, Any] | None = None
    hash = "0" * 32

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Admin

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path.split("?")[0] == "/":
            self._answer(200, _ROOT)
        elif self.path.startswith("/status"):
            self._answer(200, {"configuration_hash": self.server.hash, "database": {"reachable": True}, "server": {}})
        elif self.path.startswith("/schemas/plugins/"):
            self._answer(200, {"fields": [{"config": {"type": "record", "fields": []}}]})  # no defaults to fill in
        else:
            self._answer(404, {"message": "Not found"})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        self.server.config = json.loads(data)
        self.server.hash = hashlib.md5(data).hexdigest()
        self._answer(201, {})

    def log_message(self, format: str, *args: Any) -> None:
        return None


@contextmanager
def admin() -> Iterator[Admin]:
    server = Admin(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
