"""A real Prometheus whose volume is full: it answers, and goes on recording when there is space again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from tests.waiting import until

pytestmark = [pytest.mark.drill("prometheus"), pytest.mark.timeout(600)]
SIZE = "160m"
"""Size of the volume: a segment of the log has 128 MiB."""


@pytest.fixture
def volume() -> Iterator[Path]:
    """A separate file system in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file system of a given size")
    with tempfile.TemporaryDirectory(prefix="cogniforge-volume-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
        yield Path(folder)
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def url(volume: Path, tmp_path: Path) -> Iterator[str]:
    """A server that scrapes itself four times a second."""
    port = free_port()
    scrape = {"job_name": "self", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    settings = {"global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"}, "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(settings))
    command = [str(builder.resolve(ToolName.PROMETHEUS)), f"--config.file={tmp_path}/prometheus.yml"]
    command += [f"--storage.tsdb.path={volume}/metrics", f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            until(lambda: _ready(address), 60, lambda: (tmp_path / "log").read_text()[-2000:])
            yield address
        finally:
            process.terminate()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def value(url: str, query: str) -> float:
    """Value of a query with one result; 0 without one."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["data"]["result"]
    return float(found[0]["value"][1]) if found else 0


def failed_writes(url: str) -> float:
    """Number of failed writes to the log, which the server shows even if it cannot store it."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    return float(re.findall(r"^prometheus_tsdb_wal_writes_failed_total (.+)$", text, re.MULTILINE)[0])


def test_a_full_volume_costs_new_samples_only(volume: Path, url: str) -> None:
    until(lambda: value(url, "count_over_time(up[1m])") > 5, 60)
    filler = volume / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 2**16)
    until(lambda: failed_writes(url) > 0, 60)
    before = value(url, "timestamp(up)")
    # It answers queries while nothing can be written.
    for _ in range(20):
        assert _ready(url)
        assert value(url, "count_over_time(up[5m])") > 5
    filler.unlink()
    until(lambda: value(url, "timestamp(up)") > before + 2, 60, lambda: str(value(url, "timestamp(up)")))
