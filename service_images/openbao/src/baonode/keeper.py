"""Process beside each server: reconciles the store's content with the declaration, and exports metrics.

Only the active server's keeper writes. After a start, a failover or a restore, the next round finds the differences, so
that `forge up` is not needed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from baonode import content, layout
from baonode.client import Client, Refused, Unreachable
from baonode.content import Kind
from baonode.layout import Problem

ROLE = "platform.keeper"
EVERY_S, SOON_S = 60.0, 1.0
METRICS_PORT = 9102
SERVER_METRICS = "http://127.0.0.1:8210/v1/sys/metrics?format=prometheus"


class Keeper:
    """State of the keeper, for its metrics."""

    def __init__(self) -> None:
        self.configured = False
        self.declared = ""
        """Digest of the declaration in the last round."""
        self.kept = 0
        self.settled = {Kind.ADD: 0, Kind.CHANGE: 0, Kind.REMOVE: 0}
        self._said = ""

    def round(self) -> float:
        """Run one round. Returns the seconds until the next one."""
        self.configured = False
        try:
            client = Client(layout.address(), layout.authority())
            status = client.status()
            if status["sealed"] or status["standby"] or not status["initialized"]:
                return SOON_S
            client.login(ROLE, layout.token().read_text().strip())
            # Services may store secrets from now on, so this must not count as an unfinished initialization.
            layout.birth().unlink(missing_ok=True)
            try:
                self._settle(client)
            finally:
                client.logout()
        except (Unreachable, Refused, OSError, ValueError) as error:
            self._say(f"cannot be configured: {error}")
        return EVERY_S if self.configured else SOON_S

    def _settle(self, client: Client) -> None:
        self.declared = layout.declared().read_text()
        wanted = json.loads(self.declared)
        done, failed = content.settle(client, wanted)
        for difference in done:
            self.settled[difference.kind] += 1
            print(difference, flush=True)
        left = content.differences(client, wanted)
        kept = [difference for difference in left if difference.kind is Kind.KEEP]
        self.kept, self.configured = len(kept), len(left) == len(kept)
        if self.configured:
            undeclared = f"; undeclared objects that are kept: {', '.join(one.path for one in kept)}" if kept else ""
            self._say(f"the content matches the declaration{undeclared}")
        else:
            self._say("; ".join(failed or map(str, left)))

    def outdated(self) -> bool:
        """Whether the declaration has changed since the last round."""
        try:
            return bool(self.declared) and layout.declared().read_text() != self.declared
        except OSError:
            return False

    def _say(self, text: str) -> None:
        """Print a message, unless it repeats the last one."""
        if text != self._said:
            print(text, flush=True)
            self._said = text

    def metrics(self) -> str:
        """Metrics in Prometheus' format: the store's current state, then OpenBao's own."""
        try:
            status: dict[str, Any] | None = Client(layout.address(), layout.authority()).status()
        except (Unreachable, Refused, ValueError):
            status = None
        gauges: dict[str, tuple[str, int]] = {
            "up": ("Whether the server answers.", status is not None),
            "kept": ("Undeclared engines and keys that are kept for their data.", self.kept),
        }
        if status is not None:
            active = not (status["sealed"] or status["standby"]) and status["initialized"]
            gauges |= {
                "sealed": ("Whether the server is sealed and cannot serve requests.", status["sealed"]),
                "initialized": ("Whether the store is initialized.", status["initialized"]),
                "active": ("Whether this is the active server.", active),
            }
            if active:
                gauges["configured"] = ("Whether the content matches the declaration.", self.configured)
        lines: list[str] = []
        for name, (about, value) in gauges.items():
            lines += [f"# HELP secret_store_{name} {about}", f"# TYPE secret_store_{name} gauge"]
            lines.append(f"secret_store_{name} {int(value)}")
        lines.append("# HELP secret_store_settled_total Settled differences from the declaration.")
        lines.append("# TYPE secret_store_settled_total counter")
        lines += [f'secret_store_settled_total{{kind="{kind}"}} {count}' for kind, count in self.settled.items()]
        return "\n".join(lines) + "\n" + _own()


def _own() -> str:
    try:
        with urllib.request.urlopen(os.environ.get("STORE_SERVER_METRICS", SERVER_METRICS), timeout=3) as answer:
            return answer.read().decode()
    except (OSError, ValueError):
        return ""


def _listen(keeper: Keeper, port: int) -> ThreadingHTTPServer:
    class Answers(BaseHTTPRequestHandler):
        """Handler for scrapes."""

        def do_GET(self) -> None:
            """Answer with metrics."""
            there = self.path == "/metrics"
            self.send_response(200 if there else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            if there:
                self.wfile.write(keeper.metrics().encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Disable logging of scrapes."""

    try:
        return ThreadingHTTPServer(("", port), Answers)
    except OSError as error:
        raise Problem(f"metrics cannot be served at port {port}: {error}") from error


def main() -> int:
    """Run until the pod ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # PID 1 has no default handler
    keeper = Keeper()
    port = int(os.environ.get("STORE_METRICS", METRICS_PORT))
    threading.Thread(target=_listen(keeper, port).serve_forever, daemon=True).start()
    while True:
        again = time.monotonic() + keeper.round()
        while time.monotonic() < again and not keeper.outdated():
            time.sleep(SOON_S)
