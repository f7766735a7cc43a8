"""Data servers require a login: the arguments and settings that they start with."""

from __future__ import annotations

import http.server
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.config.data import Nats
from components.data import change_data_capture, exporter
from components.data.cache import OWNER as CACHE_OWNER
from components.data.change_data_capture import CONNECT
from components.data.nats import MONITOR_PORT, OWNER, configuration

SOURCES = Path(__file__).resolve().parents[2] / "service_images"
sys.path[:0] = [str(SOURCES.parent), str(SOURCES / "data-tasks" / "src"), str(SOURCES / "kafka" / "src")]

import connect_probe  # noqa: E402
from tasks import capture  # noqa: E402

from service_images.conftest import NatsServer  # noqa: E402
from service_images.ports import free_port  # noqa: E402


def _worker() -> dict[str, str]:
    text = change_data_capture.worker("kafka:9092", 3, "/etc/ca.crt")
    return dict(line.split("=", 1) for line in text.splitlines())


def test_kafka_connect_requires_a_login() -> None:
    settings = _worker()
    assert settings["rest.extension.classes"].endswith("BasicAuthSecurityRestExtension")
    assert change_data_capture.LOGIN_FILE in change_data_capture.JAAS
    assert settings["admin.listeners"] == ""


def test_a_connector_reaches_its_own_credentials_and_nothing_else_of_the_worker() -> None:
    settings = _worker()
    assert settings["config.providers.dir.param.allowed.paths"] == "/etc/credentials/capture"
    assert settings["config.providers.env.param.allowlist.pattern"] == "POD_NAME"
    assert settings["connector.client.config.override.policy"] == "None"


def test_connectors_name_no_file_outside_the_allowed_folder() -> None:
    for config in change_data_capture.connectors("postgres", ["user", "audit"]).values():
        for value in config.values():
            assert "${dir:" not in value or value.startswith("${dir:/etc/credentials/capture:")
            assert "${env:" not in value


def test_the_probe_and_the_task_show_the_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = connect_probe.request("8083", f"{CONNECT}=a-password\n")
    assert asked.headers["Authorization"] == httpx.BasicAuth(CONNECT, "a-password")._auth_header
    assert capture.LOGIN == CONNECT


class _Worker(http.server.BaseHTTPRequestHandler):
    joined = True

    def do_GET(self) -> None:
        self.send_response(200 if self.joined else 500)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(("joined", "orphans", "ended"), [(1, "", 0), (0, "", 0), (0, "task", 0), (1, "task", 1)])
def test_a_worker_with_orphaned_tasks_restarts_after_rejoining_its_group(
    tmp_path: Path, joined: bool, orphans: str, ended: int
) -> None:
    files = {name: tmp_path / name for name in ("login", "orphans")}
    files["login"].write_text("user=word\n")
    files["orphans"].write_text(orphans)
    handler = type("Worker", (_Worker,), {"joined": joined})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_port)
        assert connect_probe.main([port, str(files["login"]), str(files["orphans"])]) == ended
        assert connect_probe.main([port, str(files["login"])]) == (0 if joined else 1)
        server.shutdown()
    assert connect_probe.main([port, str(files["login"]), str(files["orphans"])]) == 1, "it does not listen"


def test_the_caches_exporter_has_a_password_for_its_own_server_only() -> None:
    made = exporter.cache("image", 6379, CACHE_OWNER, "/etc/cache-secret/exporter.json")
    assert "REDIS_PASSWORD" not in {**made.environment, **made.secrets}
    assert "-redis.password-file=/etc/cache-secret/exporter.json" in made.arguments
    known: dict[str, str] = json.loads(exporter.cache_passwords(6379, CACHE_OWNER, "word"))
    assert set(known) == {"redis://127.0.0.1:6379", f"redis://{CACHE_OWNER}@127.0.0.1:6379"}


@pytest.fixture
def nats_with_monitoring(tmp_path: Path) -> Iterator[tuple[Any, int]]:
    settings = json.loads(configuration(Nats(replicas=1), "nats", "space", {OWNER: "word"}, {}))
    settings["jetstream"]["store_dir"] = str(tmp_path)
    port = free_port()
    settings["http"] = settings["http"].replace(str(MONITOR_PORT), str(port))
    server = NatsServer(tmp_path, settings)
    yield server, port
    server.kill()


def test_the_monitoring_of_nats_answers_in_its_own_pod_only(nats_with_monitoring: tuple[Any, int]) -> None:
    _, port = nats_with_monitoring
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    with socket.socket() as elsewhere:
        assert elsewhere.connect_ex(("127.0.0.2", port)) != 0
