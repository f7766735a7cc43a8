"""Chromium without a window, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

STARTS_S = 120
WIDE, PHONE = (1280, 900), (390, 844)
"""Sizes of windows, in CSS pixels."""
_NETWORK_CHANGES = 10
"""How often an address is opened, if the network of the machine changes each time."""


class Chromium:
    """A browser with one page."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=120, suppress_origin=True)
        self._numbers = itertools.count(1)
        self._session = ""
        self.events: list[dict[str, Any]] = []
        """Events of the page since it was opened last."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol. Fails with its error."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while (answer := json.loads(self._socket.recv())).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def open(self, address: str) -> None:
        """Open an address, and wait until it is loaded with all that belongs to it.

        Chromium ends all connections when an interface of the machine comes or goes, as those of a node's pods do, and
        shows a page of its own, of 250 kB. The address is then opened again. Any other failure is the test's.
        """
        for _ in range(_NETWORK_CHANGES):
            self.events.clear()
            error = self.call("Page.navigate", url=address).get("errorText", "")
            self.loaded()
            errors = {error, *(failed["errorText"] for failed in self._of("Network.loadingFailed"))}
            if "net::ERR_NETWORK_CHANGED" not in errors:
                break
        assert not error, (address, error)

    def loaded(self) -> None:
        """Wait until a page that is being opened is loaded."""
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv()))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def becomes(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.1)

    def submit(self, form: str, **fields: str) -> None:
        """Fill in the fields of a form, send it as a person does, and wait for the next page."""
        for name, value in fields.items():
            place = json.dumps(f"{form} [name={name}]")
            self.evaluate(f"document.querySelector({place}).value = {json.dumps(value)}")
        self.events.clear()
        self.evaluate(f"document.querySelector({json.dumps(form)}).requestSubmit()")
        self.loaded()

    def look(self, size: tuple[int, int], *, dark: bool) -> None:
        """Set the size of the window and the reader's choice of colours."""
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE
        )
        chosen = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[chosen])

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """Errors that the browser has logged since the page was opened, such as of its content security policy."""
        entries = [one["entry"] for one in self._of("Log.entryAdded")]
        texts = [entry["text"] for entry in entries if entry["level"] == "error"]
        return texts + [str(one) for one in self._of("Runtime.exceptionThrown")]

    def received(self) -> dict[str, int]:
        """Bytes that were received for the page, headers included, by address."""
        sent = {one["requestId"]: one["request"]["url"] for one in self._of("Network.requestWillBeSent")}
        ends = self._of("Network.loadingFinished")
        return {sent[end["requestId"]]: round(end["encodedDataLength"]) for end in ends if end["requestId"] in sent}

    def _of(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@contextmanager
def chromium(folder: Path, program: str = "chromium") -> Iterator[Chromium]:
    """A browser with a profile in `folder`, which accepts the certificate of the test."""
    options = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}", "--no-first-run"]
    options += ["--ignore-certificate-errors", "--disable-gpu", "--disable-dev-shm-usage", "--no-sandbox"]
    options += ["--hide-scrollbars", "--force-device-scale-factor=1", "--disable-background-networking"]
    log = (folder.parent / "chromium.log").open("wb")
    process = subprocess.Popen([program, *options, "about:blank"], stdout=log, stderr=log)
    try:
        file, deadline = folder / "DevToolsActivePort", time.monotonic() + STARTS_S
        while not (file.exists() and len(file.read_text().splitlines()) == 2):
            assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()[-2000:]
            time.sleep(0.1)
        port, path = file.read_text().splitlines()
        browser = Chromium(f"ws://127.0.0.1:{port}{path}")
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.wait(30)
        log.close()
