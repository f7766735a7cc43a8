"""Exporters serve their own server's metrics, and connect to no other server for any query."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from components.data import exporter
from local import paths
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port

LOGIN, PASSWORD = "owner", "password-of-the-exporters-login"
FAKE = """
import http.server, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(f"{self.path}|{sorted(k.lower() for k in self.headers)}".encode())
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""
"""An exporter that answers any request."""


class Listener:
    """A server that an attacker would like the exporter to log in to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.received: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    connection.settimeout(5)
                    self.received.append(connection.recv(4096))

    def close(self) -> None:
        """Stop the server."""
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@contextlib.contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, from when its port answers until it is stopped."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 200:
                    break
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def door(listen: int, inner: int, *command: str) -> list[str]:
    """The command of the metrics proxy, as in pods, but on loopback."""
    flags = [f"-listen=127.0.0.1:{listen}", f"-metrics=http://127.0.0.1:{inner}/metrics"]
    return [str(builder.resolve(ToolName.METRICS_DOOR)), *flags, "--", *command]


@pytest.fixture(scope="module")
def fake() -> Iterator[str]:
    """Address of a metrics proxy in front of an exporter that answers any request."""
    listen, inner = free_port(), free_port()
    with running(door(listen, inner, sys.executable, "-c", FAKE, str(inner)), listen):
        yield f"http://127.0.0.1:{listen}"


@pytest.mark.parametrize(
    "path",
    ["/", "/scrape", "/scrape?target=redis://a:1", "/probe?target=a:1", "/metrics/", "/metrics/../scrape", "//metrics",
     "/metrics%2f..%2fscrape", "/-/reload", "/debug/pprof/", "/discover-cluster-nodes", "/METRICS"],
)  # fmt: skip
def test_the_metrics_port_serves_metrics_only(fake: str, path: str) -> None:
    with socket.create_connection(("127.0.0.1", int(fake.rpartition(":")[2])), timeout=10) as raw:
        # Raw, since HTTP clients would normalize the path.
        raw.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        answer = raw.recv(65536)
    assert answer.startswith(b"HTTP/1.1 404 "), answer


def test_a_query_and_headers_do_not_reach_an_exporter(fake: str) -> None:
    headers = {"authorization": "Basic eDp5", "x-forwarded-for": "a", "accept": "text/plain"}
    text = httpx.get(f"{fake}/metrics?target=redis://a:1&collect[]=x", headers=headers, trust_env=False).text
    assert text == "/metrics|['accept', 'accept-encoding', 'host']"
    assert httpx.post(f"{fake}/metrics", trust_env=False).status_code == 404


def test_a_door_and_its_exporter_end_together() -> None:
    listen, inner = free_port(), free_port()
    with running(door(listen, inner, sys.executable, "-c", FAKE, str(inner)), listen) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{inner}/metrics", trust_env=False)
    command = door(free_port(), inner, sys.executable, "-c", "raise SystemExit(3)")
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 1


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exporters' real programs, from the root file system of their image."""
    folder = tmp_path_factory.mktemp("exporters")
    wanted = {f"./usr/bin/prometheus-{name}-exporter" for name in ("redis", "postgres")}
    for archive in sorted((paths.cache() / "rootfs").glob("*.tar")):
        with tarfile.open(archive) as content:
            members = [member for member in content if f"./{member.name.removeprefix('./')}" in wanted]
            if members:
                content.extractall(folder, members, filter="data")
                return folder / "usr" / "bin"
    pytest.skip("the image of the exporters has not been built on this machine")


@pytest.mark.integration
def test_redis_exporter_connects_to_no_target_of_a_query(programs: Path, listener: Listener, tmp_path: Path) -> None:
    own, passwords = free_port(), tmp_path / "exporter.json"
    passwords.write_text(exporter.cache_passwords(own, LOGIN, PASSWORD))
    made, target = exporter.cache("image", own, LOGIN, str(passwords)), f"redis://127.0.0.1:{listener.port}"
    program = str(programs / "prometheus-redis-exporter")
    given = made.arguments[made.arguments.index("--") + 2 :]
    inner, listen = exporter.CACHE_PORT + exporter.BEHIND, free_port()
    assert f"-web.listen-address=127.0.0.1:{inner}" in given
    behind = free_port()
    flags = [flag.replace(f"127.0.0.1:{inner}", f"127.0.0.1:{behind}") for flag in given]
    environment = {name: str(value) for name, value in made.environment.items()}
    with running(door(listen, behind, program, *flags), listen, **environment):
        metrics = httpx.get(f"http://127.0.0.1:{listen}/metrics", params={"target": target}, trust_env=False).text
        assert "redis_exporter_" in metrics
        asked = httpx.get(f"http://127.0.0.1:{listen}/scrape", params={"target": target}, trust_env=False)
        assert asked.status_code == 404 and not listener.received
        httpx.get(f"http://127.0.0.1:{behind}/scrape", params={"target": target}, trust_env=False, timeout=20)
        assert listener.received, "the exporter itself connects; the door keeps strangers from it"
        assert PASSWORD.encode() not in b"".join(listener.received), "and it has its password for its own server alone"


@pytest.mark.integration
@pytest.mark.parametrize("path", ["/probe", "/scrape", "/metrics"])
def test_postgres_exporter_connects_to_no_target_of_a_query(
    programs: Path, listener: Listener, tmp_path: Path, path: str
) -> None:
    """Debian's version has no /probe. A later version has it, and then needs the metrics proxy."""
    made, listen = exporter.postgres("image", str(tmp_path), LOGIN), free_port()
    (flag,) = made.arguments[1:]
    command = [str(programs / "prometheus-postgres-exporter"), flag.replace(":9187", f"127.0.0.1:{listen}")]
    with running(command, listen, **{name: str(value) for name, value in made.environment.items()}):
        for target in (f"127.0.0.1:{listener.port}", f"postgresql://127.0.0.1:{listener.port}/x?sslmode=disable"):
            httpx.get(f"http://127.0.0.1:{listen}{path}", params={"target": target}, trust_env=False, timeout=20)
    assert not listener.received
