"""The example of an own service: it calls the Router with its caller's key, and keeps a row for the caller's tenant."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from service_images.ports import free_port
from service_images.serving import answering, served

SOURCES = Path(__file__).resolve().parents[2] / "examples" / "own-service" / "notes" / "src"
TENANTS = {"Bearer one": "acme", "Bearer two": "globex"}


class Platform(BaseHTTPRequestHandler):
    """Double of User's `GET /v1/self` and the Router's chat completions."""

    def do_GET(self) -> None:
        tenant = TENANTS.get(self.headers.get("authorization", ""))
        self._answer(*((200, {"tenant": tenant}) if tenant else (401, {"error": {"message": "unknown key"}})))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers.get("authorization") == "Bearer two":
            self._answer(429, {"error": {"message": "the budget is used up", "code": "budget_exceeded"}})
            return
        content = f"{asked['model']} says {asked['messages'][0]['content'].upper()}"
        self._answer(200, {"choices": [{"message": {"role": "assistant", "content": content}}]})

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Disable logging."""


@contextlib.contextmanager
def _platform() -> Iterator[str]:
    with answering(Platform) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def notes(service_database: Callable[[str], dict[str, Any]], tmp_path: Path) -> Iterator[httpx.Client]:
    database, port = service_database("notes"), free_port()
    (tmp_path / "SERVICE_POSTGRES_PASSWORD").write_text("of-notes")
    with _platform() as platform:
        own = {
            "NOTES_SECRETS": str(tmp_path),
            "PYTHONPATH": str(SOURCES),
            "SERVICE_PORT": str(port),
            "SERVICE_ROUTER_URL": platform,
            "SERVICE_USER_URL": platform,
            "SERVICE_POSTGRES_HOST": str(database["postgres_host"]),
            "SERVICE_POSTGRES_DIRECT_HOST": str(database["postgres_host"]),
            "NOTES_POSTGRES_PORT": str(database["postgres_port"]),
        }
        for _ in range(2):  # the second start finds the tables and changes nothing
            subprocess.run([sys.executable, "-m", "notes.tables"], env={**os.environ, **own}, check=True)
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "notes"]
        with (
            served(command, own, f"{url}/readyz", 60),
            httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
        ):
            yield client


def test_an_answer_is_kept_for_the_tenant_of_the_key_and_shown_to_no_other(notes: httpx.Client) -> None:
    def ask(key: str, **body: Any) -> httpx.Response:
        return notes.post("/v1/notes", json=body, headers={"authorization": f"Bearer {key}"})

    def kept(key: str) -> Any:
        return notes.get("/v1/notes", headers={"authorization": f"Bearer {key}"}).json()["notes"]

    made = ask("one", question="why?")
    assert made.status_code == 201
    assert made.json() == {"id": 1, "question": "why?", "answer": "demo says WHY?"}
    assert kept("one") == [made.json()] and kept("two") == []
    refused = ask("two", question="why?")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    assert ask("nobody", question="why?").status_code == 401
    assert notes.get("/v1/notes").status_code == 401
    for wrong in ({}, {"question": ""}, {"question": "x" * 4001}, {"question": 3}, {"question": "a\0b"}):
        assert ask("one", **wrong).status_code == 400
    assert len(kept("one")) == 1
    metrics = notes.get("/metrics").text
    assert 'http_server_requests_total{route="/v1/notes",status="201"} 1.0' in metrics
    assert "http_server_request_duration_seconds_bucket" in metrics
