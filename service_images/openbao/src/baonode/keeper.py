"""Beside each server: brings the store's content to what is declared, again and again, and gives its metrics.

Only the active server's keeper writes. `forge up` is not needed after a start, a change of the active server or a
restore: the next round finds what differs.
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

ROLE = "platform.keeper"
EVERY_S, SOON_S = 60.0, 1.0
METRICS_PORT = 9102
SERVER_METRICS = "http://127.0.0.1:8210/v1/sys/metrics?format=prometheus"


class Keeper:
    """What it knows of the store, for whoever reads its metrics."""

    def __init__(self) -> None:
        self.configured = False
        self.declared = ""
        """What the last round was about."""
        self.kept = 0
        self.settled = {Kind.ADD: 0, Kind.CHANGE: 0, Kind.REMOVE: 0}
        self._said = ""

    def round(self) -> float:
        """Look once; returns after how many seconds to look again."""
        self.configured = False
        try:
            client = Client(layout.address(), layout.authority())
            status = client.status()
            if status["sealed"] or status["standby"] or not status["initialized"]:
                return SOON_S
            client.login(ROLE, layout.token().read_text().strip())
            # From now on services may put something in: it must not be taken for an unfinished birth.
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
            undeclared = f"; not declared and kept: {', '.join(one.path for one in kept)}" if kept else ""
            self._say(f"the content is as declared{undeclared}")
        else:
            self._say("; ".join(failed or map(str, left)))

    def outdated(self) -> bool:
        """Whether the declaration has changed since the last round."""
        try:
            return bool(self.declared) and layout.declared().read_text() != self.declared
        except OSError:
            return False

    def _say(self, text: str) -> None:
        """Say it once, not every few seconds."""
        if text != self._said:
            print(text, flush=True)
            self._said = text

    def metrics(self) -> str:
        """In Prometheus' format: the store's state at this moment, then OpenBao's own."""
        try:
            status: dict[str, Any] | None = Client(layout.address(), layout.authority()).status()
        except (Unreachable, Refused, ValueError):
            status = None
        gauges: dict[str, tuple[str, int]] = {
            "up": ("Whether the server answers.", status is not None),
            "kept": ("Engines and keys that are not declared, and kept for what they hold.", self.kept),
        }
        if status is not None:
            active = not (status["sealed"] or status["standby"]) and status["initialized"]
            gauges |= {
                "sealed": ("Whether the server is sealed: it then answers nobody.", status["sealed"]),
                "initialized": ("Whether there is a store.", status["initialized"]),
                "active": ("Whether this is the server that answers for all.", active),
            }
            if active:
                gauges["configured"] = ("Whether the content is as declared.", self.configured)
        lines: list[str] = []
        for name, (about, value) in gauges.items():
            lines += [f"# HELP secret_store_{name} {about}", f"# TYPE secret_store_{name} gauge"]
            lines.append(f"secret_store_{name} {int(value)}")
        lines.append("# HELP secret_store_settled_total Differences from what is declared that were settled.")
        lines.append("# TYPE secret_store_settled_total counter")
        lines += [f'secret_store_settled_total{{kind="{kind}"}} {count}' for kind, count in self.settled.items()]
        return "\n".join(lines) + "\n" + _own()


def _own() -> str:
    try:
        with urllib.request.urlopen(os.environ.get("STORE_SERVER_METRICS", SERVER_METRICS), timeout=3) as answer:
            return answer.read().decode()
    except (OSError, ValueError):
        return ""


def _serve(keeper: Keeper, port: int) -> None:
    class Answers(BaseHTTPRequestHandler):
        """To the scraper."""

        def do_GET(self) -> None:
            """Metrics, and nothing else."""
            there = self.path == "/metrics"
            self.send_response(200 if there else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            if there:
                self.wfile.write(keeper.metrics().encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    ThreadingHTTPServer(("", port), Answers).serve_forever()


def main() -> int:
    """Until the pod ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container has no other handler
    keeper = Keeper()
    port = int(os.environ.get("STORE_METRICS", METRICS_PORT))
    threading.Thread(target=_serve, args=(keeper, port), daemon=True).start()
    while True:
        again = time.monotonic() + keeper.round()
        while time.monotonic() < again and not keeper.outdated():
            time.sleep(SOON_S)
